// Makes passkeys, and signs decisions with them, on this device.
"use strict";

const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));

function enrol(form) {
  const options = JSON.parse(form.dataset.enrol);
  return navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: decode(options.challenge),
      user: { ...options.user, id: decode(options.user.id) },
      excludeCredentials: options.excludeCredentials.map((one) => ({ ...one, id: decode(one.id) })),
    },
  });
}

// What a verdict is signed as (`write_statement` in passkeys.py), over the digest that was computed here.
async function writeStatement(told, verdict, until) {
  const content = JSON.parse(told.content);
  const expires = verdict === "break_glass" ? until : content.expires_at;
  const digest = await digestOf(content);
  const said = { type: told.type, proposal: content.id, digest, verdict, approver: told.approver, expires_at: expires };
  return canonicalise(said);
}

async function sign(form, told, verdict) {
  const problem = await findProblem(form, told);
  if (problem) {
    throw new Error(problem);
  }
  const statement = await writeStatement(told, verdict, Number(form.elements.namedItem("until")?.value));
  const allowCredentials = told.passkeys.map((id) => ({ type: "public-key", id: decode(id) }));
  const publicKey = { challenge: await hash(statement), rpId: told.rp, allowCredentials, userVerification: "required" };
  return navigator.credentials.get({ publicKey });
}

// Why this page is not to be signed; "" when it shows what its digest stands for.
async function findProblem(form, told) {
  if (!told.content) {
    return "Some of this is withheld on this page, so what its digest stands for can’t be checked here. Nothing was signed.";
  }
  const content = JSON.parse(told.content);
  const lies = findLies(content);
  if (lies.length > 0) {
    const named = lies.map(nameOf).join(", ");
    return `This page does not show what would be signed: ${named}. Nothing was signed: tell the platform team.`;
  }
  if ((await digestOf(content)) !== form.elements.namedItem("digest").value) {
    return "The digest of what is shown is another one than the server’s. Nothing was signed: tell the platform team.";
  }
  return "";
}

// The verdict that a button asks for; "" for what is not signed, as a login.
function verdictOf(form, button) {
  const path = button?.getAttribute("formaction") ?? form.getAttribute("action");
  const last = path.split("/").pop();
  return { approve: "approve", reject: "reject", "break-glass": "break_glass" }[last] ?? "";
}

const explain = (error) =>
  error instanceof DOMException ? `Your device did not confirm it, so nothing was sent (${error.name}).` : error.message;

// Listens on the document: the parts of a page that is kept current come and go.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  const verdict = form.dataset.sign ? verdictOf(form, event.submitter) : "";
  if (!form.dataset.enrol && !verdict) {
    return;
  }
  const field = form.elements.namedItem("credential");
  if (field.value) {
    return;
  }
  event.preventDefault();
  const said = form.querySelector("[data-said]");
  try {
    said.textContent = "Your device asks you to confirm.";
    field.value = JSON.stringify(await (verdict ? sign(form, JSON.parse(form.dataset.sign), verdict) : enrol(form)));
    form.requestSubmit(event.submitter);
  } catch (error) {
    const lie = !(error instanceof DOMException);
    said.textContent = explain(error);
    said.classList.toggle("lie", lie);
    if (lie) {
      form.querySelector("[data-computed]")?.replaceChildren(); // it was computed before
    }
  }
});

// Says beside the server's digest what this device makes of what it shows.
async function tellDigest(form) {
  const told = JSON.parse(form.dataset.sign);
  const problem = await findProblem(form, told);
  const place = form.querySelector("[data-computed]");
  if (place) {
    const digest = told.content ? (await digestOf(JSON.parse(told.content))).slice(0, SHORT_DIGEST) : "";
    place.textContent = problem || `Computed on this device from what is shown here: ${digest}.`;
    place.classList.toggle("lie", problem !== "");
  }
}

for (const form of document.querySelectorAll("form[data-enrol], form[data-sign]")) {
  form.elements.namedItem("credential").value = "";
  if (form.dataset.sign) {
    tellDigest(form);
  }
}
