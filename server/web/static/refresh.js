// Keeps the progress of a proposal current while the applier works on it.
"use strict";

const EVERY = 2000;
const part = (page, name) => page.querySelector(`[data-live="${name}"]`);

function update(page) {
  for (const here of document.querySelectorAll("[data-live]")) {
    const there = part(page, here.dataset.live);
    // What has not changed is left alone, so that a screen reader says only what is new.
    if (there && there.innerHTML !== here.innerHTML) {
      here.replaceChildren(...document.adoptNode(there).childNodes);
    }
  }
}

async function look() {
  try {
    const answer = await fetch(location.pathname, { redirect: "manual" });
    if (answer.type === "opaqueredirect") {
      location.reload(); // logged out
      return;
    }
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (part(page, "state")?.textContent !== part(document, "state").textContent) {
        location.reload(); // another state is another page
        return;
      }
      update(page);
    }
  } catch {
    // The server is away for a moment: look again.
  }
  setTimeout(look, EVERY);
}

setTimeout(look, EVERY);
