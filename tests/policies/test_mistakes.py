"""Mistakes in policy and case files, with exactly what is told of each: place, problem, what was meant, the text."""

from pathlib import Path

import pytest

from arborgate.policies.casebook import read_cases
from arborgate.policies.errors import BadConfiguration
from arborgate.policies.loader import load_policies
from tests.policies.writing import copy_shipped

CASES = """\
world:
  environments: {prod: {strict: true}}
  apps:
    main/argocd/shop: {environment: prod}
people:
  dana: {roles: [developer]}
cases:
  - who: dana
    may: app:read
    of: App::main/argocd/shop
    by: x
    why: Because.
"""

# Each mistake: what it is, the text of the file, what is told.
IN_POLICIES = [
    (
        "a policy without a semicolon",
        """
@id("x")
permit (principal, action, resource)

@id("y")
forbid (principal, action, resource);
""",
        """
own.cedar:2:36: the policy ends here without a semicolon
    permit (principal, action, resource)
                                       ^
""",
    ),
    (
        "a last policy without a semicolon",
        """
@id("x")
permit (principal, action, resource)
""",
        """
own.cedar:2:36: the policy ends here without a semicolon
    permit (principal, action, resource)
                                       ^
""",
    ),
    (
        "a bracket that stays open",
        """
@id("x")
permit (principal, action, resource)
when { (context.strict };
""",
        """
own.cedar:3:8: the `(` that opens here is not closed
    when { (context.strict };
           ^
""",
    ),
    (
        "a brace that stays open",
        """
@id("x")
permit (principal, action, resource)
when { context.strict;
""",
        """
own.cedar:3:6: the `{` that opens here is not closed
    when { context.strict;
         ^
""",
    ),
    (
        "typographic quotes",
        """
@id("x")
permit (principal, action, resource)
when { context.channel == “pages” };
""",
        """
own.cedar:3:27: “ is a typographic quote; a string stands between plain ones: "…"
    when { context.channel == “pages” };
                              ^
""",
    ),
    (
        "single quotes",
        """
@id("x")
permit (principal, action, resource)
when { context.channel == 'pages' };
""",
        """
own.cedar:3:27: a string stands between double quotes: "…", not '…'
    when { context.channel == 'pages' };
                              ^
""",
    ),
    (
        "a quote that is missing",
        """
@id("x")
permit (principal, action, resource)
when { context.channel == "pages };

@id("y")
permit (principal, action, resource);
""",
        """
own.cedar:3:27: the string that begins here has no closing quote
    when { context.channel == "pages };
                              ^^^^^^^^^
""",
    ),
    (
        "a comment of another language",
        """
# why
@id("x")
permit (principal, action, resource);
""",
        """
own.cedar:1:1: a comment begins with //, not with #
    # why
    ^
""",
    ),
    (
        "a word of another language",
        """
@id("x")
permit (principal, action, resource)
when { context.strict and context.bound };
""",
        """
own.cedar:3:23: not a Cedar policy: unexpected token `and`; did you mean `&&`?
    when { context.strict and context.bound };
                          ^^^
""",
    ),
    (
        "a negation of another language",
        """
@id("x")
permit (principal, action, resource)
when { not context.strict };
""",
        """
own.cedar:3:12: not a Cedar policy: unexpected token `context`; did you mean `!`?
    when { not context.strict };
               ^^^^^^^
""",
    ),
    (
        "an assignment",
        """
@id("x")
permit (principal, action, resource)
when { context.channel = "pages" };
""",
        """
own.cedar:3:24: not a Cedar policy: '=' is not a valid operator in Cedar; did you mean `==`?
    when { context.channel = "pages" };
                           ^
""",
    ),
    (
        "a triple equals sign",
        """
@id("x")
permit (principal, action, resource)
when { context.channel === "pages" };
""",
        """
own.cedar:3:26: not a Cedar policy: unexpected token `=`; did you mean `==`?
    when { context.channel === "pages" };
                             ^
""",
    ),
    (
        "half an operator",
        """
@id("x")
permit (principal, action, resource)
when { context.strict & context.bound };
""",
        """
own.cedar:3:23: not a Cedar policy: invalid token `&`; did you mean `&&`?
    when { context.strict & context.bound };
                          ^
""",
    ),
    (
        "a single colon",
        """
@id("x")
permit (principal in Role:"viewer", action, resource);
""",
        """
own.cedar:2:26: not a Cedar policy: unexpected token `:`; did you mean `::`?
    permit (principal in Role:"viewer", action, resource);
                             ^
""",
    ),
    (
        "a missing comma",
        """
@id("x")
permit (principal action, resource);
""",
        """
own.cedar:2:19: not a Cedar policy: unexpected token `action`; is there a comma missing before it?
    permit (principal action, resource);
                      ^^^^^^
""",
    ),
    (
        "an effect of another language",
        """
@id("x")
allow (principal, action, resource);
""",
        """
own.cedar:2:1: not a Cedar policy: invalid policy effect: allow; did you mean `permit`?
    allow (principal, action, resource);
    ^^^^^
""",
    ),
    (
        "a misspelt condition",
        """
@id("x")
permit (principal, action, resource)
unles { context.strict };
""",
        """
own.cedar:3:1: not a Cedar policy: invalid policy condition: unles; did you mean `unless`?
    unles { context.strict };
    ^^^^^
""",
    ),
    (
        "a misspelt variable",
        """
@id("x")
permit (principal, action, resorce);
""",
        """
own.cedar:2:28: not a Cedar policy: found an invalid variable in the policy scope: resorce; did you mean `resource`?
    permit (principal, action, resorce);
                               ^^^^^^^
""",
    ),
    (
        "variables in another order",
        """
@id("x")
permit (resource, action, principal);
""",
        """
own.cedar:2:9: not a Cedar policy: found the variable `resource` where the variable `principal` must be used
    permit (resource, action, principal);
            ^^^^^^^^
""",
    ),
    (
        "a set in the scope",
        """
@id("x")
permit (principal in [Role::"a", Role::"b"], action, resource);
""",
        """
own.cedar:2:22: not a Cedar policy: expected single entity uid or template slot, found set of entity uids; a set goes into a condition: when { principal in […] }
    permit (principal in [Role::"a", Role::"b"], action, resource);
                         ^
""",  # noqa: E501
    ),
    (
        "an action without its type",
        """
@id("x")
permit (principal, action == "app:read", resource);
""",
        """
own.cedar:2:30: not a Cedar policy: expected an entity uid, found literal `"app:read"`
    permit (principal, action == "app:read", resource);
                                 ^^^^^^^^^^
""",
    ),
    (
        "a capital letter",
        """
@id("x")
permit (principal, action, resource)
when { context.strict == True };
""",
        """
own.cedar:3:26: not a Cedar policy: invalid variable: True; did you mean `true`?
    when { context.strict == True };
                             ^^^^
""",
    ),
    (
        "a misspelt method",
        """
@id("x")
permit (principal, action, resource)
when { context.actors.contain("a") };
""",
        """
own.cedar:3:23: not a Cedar policy: `contain` is not a valid method; did you mean `contains`?
    when { context.actors.contain("a") };
                          ^^^^^^^
""",
    ),
    (
        "a condition without an operand",
        """
@id("x")
permit (principal, action, resource)
when { context.strict == };
""",
        """
own.cedar:3:26: not a Cedar policy: unexpected token `}`
    when { context.strict == };
                             ^
""",
    ),
    (
        "an empty condition",
        """
@id("x")
permit (principal, action, resource)
when { context.strict } unless { };
""",
        """
own.cedar:3:25: not a Cedar policy: `unless` condition clause cannot be empty
    when { context.strict } unless { };
                            ^^^^^^
""",
    ),
    (
        "an escape that is none",
        r"""
@id("x")
permit (principal, action, resource)
when { context.agent == "a\q" };
""",
        r"""
own.cedar:3:25: not a Cedar policy: the input `\q` is not a valid escape
    when { context.agent == "a\q" };
                            ^^^^^
""",
    ),
    (
        "a number that is too large",
        """
@id("x")
permit (principal, action, resource)
when { 99999999999999999999 == 1 };
""",
        """
own.cedar:3:8: not a Cedar policy: integer parse error: number too large to fit in target type
    when { 99999999999999999999 == 1 };
           ^^^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a comparison of three",
        """
@id("x")
permit (principal, action, resource)
when { 1 < 2 < 3 };
""",
        """
own.cedar:3:1: not a Cedar policy: multiple relational operators (>, ==, in, etc.) must be used with parentheses to make ordering explicit
    when { 1 < 2 < 3 };
    ^^^^^^^^^^^^^^^^^^
""",  # noqa: E501
    ),
    (
        "an annotation twice",
        """
@id("x")
@id("y")
permit (principal, action, resource);
""",
        """
own.cedar:2:1: not a Cedar policy: duplicate annotation: @id
    @id("y")
    ^^^
""",
    ),
    (
        "an annotation that nobody knows",
        """
@ID("x")
permit (principal, action == Action::"app:read", resource);
""",
        """
own.cedar:1:1: unknown annotation @ID; did you mean @id?
    @ID("x")
    ^^^
own.cedar:1:1: the policy has no @id("…")
    @ID("x")
    ^^^^^^^^
""",
    ),
    (
        "a template",
        """
@id("x")
permit (principal == ?principal, action, resource);
""",
        """
own.cedar:2:22: a template (?principal, ?resource); write the policy out
    permit (principal == ?principal, action, resource);
                         ^^^^^^^^^^
""",
    ),
    (
        "a misspelt action",
        """
@id("x")
permit (principal, action == Action::"app:raed", resource);
""",
        """
own.cedar:2:30: unrecognized action `Action::"app:raed"`; did you mean Action::"app:read"?
    permit (principal, action == Action::"app:raed", resource);
                                 ^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a group as an action",
        """
@id("x")
permit (principal, action == Action::"read", resource);
""",
        """
own.cedar:2:30: `read` is a group of actions; write `action in Action::"read"`
    permit (principal, action == Action::"read", resource);
                                 ^^^^^^^^^^^^^^
""",
    ),
    (
        "a misspelt entity type",
        """
@id("x")
permit (principal in Rolle::"viewer", action == Action::"app:read", resource);
""",
        """
own.cedar:2:22: unrecognized entity type `Rolle`; did you mean `Role`?
    permit (principal in Rolle::"viewer", action == Action::"app:read", resource);
                         ^^^^^
""",
    ),
    (
        "a resource that the action is not asked of",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is Keyspace);
""",
        """
own.cedar:2:50: no action of this scope is ever asked of such a resource
    permit (principal, action == Action::"app:read", resource is Keyspace);
                                                     ^^^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a principal that nobody is",
        """
@id("x")
permit (principal is App, action == Action::"app:read", resource);
""",
        """
own.cedar:2:9: nobody who asks is ever such a principal
    permit (principal is App, action == Action::"app:read", resource);
            ^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a misspelt attribute",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is App)
when { resource.nam == "shop" };
""",
        """
own.cedar:3:17: attribute `nam` on entity type `App` not found; did you mean `name`?
    when { resource.nam == "shop" };
                    ^^^
""",
    ),
    (
        "a context of other actions",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is App)
when { context.strict && context.login_age < 9 };
""",
        """
own.cedar:3:34: attribute `login_age` in context for Action::"app:read" not found
    when { context.strict && context.login_age < 9 };
                                     ^^^^^^^^^
""",
    ),
    (
        "types that do not fit",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is App)
when { context.strict && context.channel == 3 };
""",
        """
own.cedar:3:26: the types Long and String are not compatible
    when { context.strict && context.channel == 3 };
                             ^^^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a set compared with a text",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is App)
when { resource.name == "a" }
unless { resource.labels == "team=shop" };
""",
        """
own.cedar:4:10: the types String and Set<String> are not compatible
    unless { resource.labels == "team=shop" };
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "an entity that would have to be looked up",
        """
@id("x")
permit (principal, action == Action::"app:read", resource is App)
when { App::"a".name == "b" };
""",
        """
own.cedar:3:8: App::"a" stands where it would have to be looked up, and only who asks and what is asked of are known; compare with it directly, as in `resource in …` or `principal == …`
    when { App::"a".name == "b" };
           ^^^^^^^^
""",  # noqa: E501
    ),
]

# Each mistake: what it is, what is replaced in the good file, and by what, what is told.
IN_CASES = [
    (
        "a tab",
        "may: app:read",
        "may:\tapp:read\n\tof: x",
        r"""
own.yaml:9:9: is not YAML: found character '\t' that cannot start any token; indent with spaces
    may: app:read
        ^
""",
    ),
    (
        "a colon in a text",
        "why: Because.",
        "why: because: yes",
        """
own.yaml:12:17: is not YAML: mapping values are not allowed here; put quotes around text that holds a colon and a space
    why: because: yes
                ^
""",
    ),
    (
        "a list that stays open",
        "[developer]",
        "[developer",
        """
own.yaml:6:27: is not YAML: expected ',' or ']', but got '}'
    dana: {roles: [developer}
                            ^
""",
    ),
    (
        "a field twice",
        "    by: x\n",
        "    by: x\n    by: y\n",
        """
own.yaml:12:5: by: stands here twice
    by: y
    ^
""",
    ),
    (
        "a misspelt field",
        "    by: x\n",
        "    bye: x\n",
        """
own.yaml:8:5: cases.0.by: is missing
    - who: dana
      ^
own.yaml:11:5: cases.0.bye: unknown field; did you mean 'by'?
    bye: x
    ^^^
""",
    ),
    (
        "a misspelt field of a person",
        "roles:",
        "rolls:",
        """
own.yaml:6:10: people.dana.rolls: unknown field; did you mean 'roles'?
    dana: {rolls: [developer]}
           ^^^^^
""",
    ),
    (
        "a field that nobody knows",
        "strict: true",
        "colour: red",
        """
own.yaml:2:25: world.environments.prod.colour: unknown field; known here: strict
    environments: {prod: {colour: red}}
                          ^^^^^^
""",
    ),
    (
        "a misspelt action",
        "app:read",
        "app:raed",
        """
own.yaml:9:10: cases.0.may.0: there is no action 'app:raed'; did you mean 'app:read'?
    may: app:raed
         ^^^^^^^^
""",
    ),
    (
        "a channel that is none",
        "[developer]",
        "[developer], channel: window",
        """
own.yaml:6:39: people.dana.channel: there is no channel 'window'; known: applier, mcp, pages, stdio, terminal
    dana: {roles: [developer], channel: window}
                                        ^^^^^^
""",
    ),
    (
        "a misspelt channel",
        "[developer]",
        "[developer], channel: page",
        """
own.yaml:6:39: people.dana.channel: there is no channel 'page'; did you mean 'pages'?
    dana: {roles: [developer], channel: page}
                                        ^^^^
""",
    ),
    (
        "a misspelt binding",
        "[developer]",
        "[developer], binding: dpopp",
        """
own.yaml:6:39: people.dana.binding: there is no binding 'dpopp'; did you mean 'dpop'?
    dana: {roles: [developer], binding: dpopp}
                                        ^^^^^
""",
    ),
    (
        "a misspelt person",
        "who: dana",
        "who: dnaa",
        """
own.yaml:8:10: cases.0.who.0: 'dnaa' is not among the people of this file; did you mean 'dana'?
    - who: dnaa
           ^^^^
""",
    ),
    (
        "a misspelt resource",
        "of: App::main/argocd/shop",
        "of: [App::main/argocd/shop, App::main/argocd/shpo]",
        """
own.yaml:10:33: cases.0.of.1: 'App::main/argocd/shpo' is not in the world of this file; did you mean 'App::main/argocd/shop'?
    of: [App::main/argocd/shop, App::main/argocd/shpo]
                                ^^^^^^^^^^^^^^^^^^^^^
""",
    ),
    (
        "a misspelt environment",
        "environment: prod",
        "environment: prd",
        """
own.yaml:4:24: world.apps.main/argocd/shop.environment: 'prd' is not among the environments
    main/argocd/shop: {environment: prd}
                       ^^^^^^^^^^^
""",
    ),
    (
        "an app that is not written whole",
        "    main/argocd/shop:",
        "    shop:",
        """
own.yaml:4:5: world.apps.shop.[key]: String should match pattern '^[^/]+/[^/]+/[^/]+$'
    shop: {environment: prod}
    ^^^^
""",
    ),
    (
        "a missing reason",
        "    why: Because.\n",
        "",
        """
own.yaml:8:5: cases.0.why: is missing
    - who: dana
      ^
""",
    ),
    (
        "both answers",
        "may: app:read",
        "may: app:read\n    may_not: app:list",
        """
own.yaml:8:5: cases.0: a case has either `may` or `may_not`
    - who: dana
      ^
""",
    ),
    (
        "nothing at all",
        CASES,
        "",
        "\nown.yaml:1:1: should hold world, people, cases, at\n    \n    ^\n",
    ),
]


@pytest.mark.parametrize(("text", "told"), [each[1:] for each in IN_POLICIES], ids=[each[0] for each in IN_POLICIES])
def test_a_mistake_in_a_policy_is_told_with_its_place_and_what_was_meant(text: str, told: str, tmp_path: Path) -> None:
    folder = copy_shipped(tmp_path / "set")
    (folder / "own.cedar").write_text(text.strip())

    with pytest.raises(BadConfiguration) as caught:
        load_policies(folder)

    assert str(caught.value).replace(f"{folder}/", "") == told.strip("\n")


@pytest.mark.parametrize(("old", "new", "told"), [each[1:] for each in IN_CASES], ids=[each[0] for each in IN_CASES])
def test_a_mistake_in_a_case_file_is_told_with_its_place_and_what_was_meant(old: str, new: str, told: str) -> None:
    assert old in CASES

    with pytest.raises(BadConfiguration) as caught:
        read_cases(Path("own.yaml"), CASES.replace(old, new))

    assert str(caught.value) == told.strip("\n")
