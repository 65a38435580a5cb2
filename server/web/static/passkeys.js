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

async function sign({ rp, passkeys }, statement) {
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(statement));
  const allowCredentials = passkeys.map((id) => ({ type: "public-key", id: decode(id) }));
  return navigator.credentials.get({ publicKey: { challenge, rpId: rp, allowCredentials, userVerification: "required" } });
}

function ask(form, button) {
  if (form.dataset.enrol) {
    return enrol(form);
  }
  const told = JSON.parse(form.dataset.sign);
  const path = button.getAttribute("formaction") ?? form.getAttribute("action");
  const statement = told.statements[path.split("/").pop()];
  return statement ? sign(told, statement) : null; // a login, for one, is not signed
}

for (const form of document.querySelectorAll("form[data-enrol], form[data-sign]")) {
  const field = form.elements.namedItem("credential");
  field.value = "";
  form.addEventListener("submit", async (event) => {
    if (field.value) {
      return;
    }
    const asked = ask(form, event.submitter);
    if (asked === null) {
      return;
    }
    event.preventDefault();
    const said = form.querySelector("[data-said]");
    try {
      said.textContent = "Your device asks you to confirm.";
      field.value = JSON.stringify(await asked);
      form.requestSubmit(event.submitter);
    } catch (error) {
      said.textContent = `Your device did not confirm it, so nothing was sent (${error.name}).`;
    }
  });
}
