// What a proposal says, held against what this page shows of it, and its digest (SHA-256 over RFC 8785) computed here.
"use strict";

const SHORT_DIGEST = 12;

// RFC 8785: numbers and strings as ECMAScript writes them, members in the order of their UTF-16 code units.
function canonicalise(value) {
  if (Array.isArray(value)) {
    return `[${value.map(canonicalise).join(",")}]`;
  }
  if (value !== null && typeof value === "object") {
    const members = Object.keys(value).sort();
    return `{${members.map((name) => `${JSON.stringify(name)}:${canonicalise(value[name])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

const hash = async (text) => new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));

async function digestOf(content) {
  return [...(await hash(canonicalise(content)))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The server writes out what is not drawn, or reorders what is beside it, as ⟨U+202E⟩ (`reveal` in words.py).
const WRITTEN_OUT = /⟨U\+((?:10|[1-9A-F])?[0-9A-F]{4})⟩/g;
const restore = (text) => text.replace(WRITTEN_OUT, (_, code) => String.fromCodePoint(parseInt(code, 16)));
const HIDDEN =
  /(?![\n\t])[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/u;

const valueAt = (content, pointer) =>
  pointer
    .split("/")
    .slice(1)
    .reduce((value, name) => value?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], content);

// A pointer in words.
function nameOf(pointer) {
  const [, number, part] = pointer.match(/^\/changes\/(\d+)\/(.*)$/) ?? [null, null, pointer.slice(1)];
  const words = part.replaceAll(/[_/]/g, " ");
  return number === null ? words : `${words} of change ${Number(number) + 1}`;
}

// What the page has to show for the value at a pointer, line by line.
function listExpected(content, pointer) {
  const value = valueAt(content, pointer);
  const name = pointer.split("/").at(-1);
  if (pointer === "/factors") {
    return value.map((one) => restore(one.why)).sort();
  }
  if (pointer === "/risk") {
    return [`${value} risk`];
  }
  if (/^\/changes\/\d+\/target$/.test(pointer)) {
    return [restore(`${value.kind} ${value.namespace}/${value.name} in ${value.cluster}`)];
  }
  if (/^\/changes\/\d+\/undo$/.test(pointer)) {
    return [value === null ? "Can’t be undone" : "Can be undone"];
  }
  if (name === "diff") {
    const text = value.replace(/\n+$/, "");
    return text === "" ? [] : text.split("\n").map(restore);
  }
  return (Array.isArray(value) ? value : [value]).map((one) => restore(String(one)));
}

// What one element shows; the marks that keep letters from right to left in their place are not part of it.
function plainText(element) {
  const text = element.textContent.replaceAll(/[\u2068\u2069]/g, "");
  return HIDDEN.test(text) ? null : restore(text);
}

// What an element shows for a pointer, line by line.
function readShown(element, pointer) {
  const lines = [...element.querySelectorAll("[data-line]")].map(plainText);
  if (lines.length === 0 && !element.matches(".diff")) {
    return [plainText(element)];
  }
  return pointer === "/factors" ? lines.sort() : lines;
}

// Everything that nobody may be asked to approve without having seen it.
function listNeeded(content) {
  const needed = ["/title", "/reason", "/requester/name", "/risk", "/environments", "/approvals_needed"];
  needed.push(...(content.requester.agent ? ["/requester/agent"] : []), ...(content.factors.length ? ["/factors"] : []));
  content.changes.forEach((change, index) => {
    const parts = ["target", "summary", "diff", "undo", "check/app", "check/health", "wave"];
    parts.push(...(change.undo_note ? ["undo_note"] : []));
    needed.push(...parts.map((part) => `/changes/${index}/${part}`));
    const warnings = content.rehearsal?.changes[index]?.warnings ?? [];
    needed.push(...warnings.map((_, number) => `/rehearsal/changes/${index}/warnings/${number}`));
  });
  return needed;
}

// The pointers of what this page shows otherwise than the content says it, or does not show at all.
function findLies(content) {
  const shown = [...document.querySelectorAll("[data-shows]")].filter((one) => one.closest("[hidden]") === null);
  const lies = shown.filter((one) => {
    const pointer = one.dataset.shows;
    if (valueAt(content, pointer) === undefined) {
      return true;
    }
    return JSON.stringify(readShown(one, pointer)) !== JSON.stringify(listExpected(content, pointer));
  });
  const pointers = new Set(shown.map((one) => one.dataset.shows));
  const missing = listNeeded(content).filter((pointer) => !pointers.has(pointer));
  return [...new Set([...lies.map((one) => one.dataset.shows), ...missing])];
}
