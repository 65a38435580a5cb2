// Keeps current what the page of a proposal says of targets that moved since it was planned.
"use strict";

const LOOK_EVERY = 10000;

async function lookAtTargets() {
  const here = document.querySelector("[data-moved]");
  try {
    const answer = await fetch(here.dataset.moved, { redirect: "manual" });
    const said = answer.ok ? await answer.text() : here.innerHTML;
    const there = new DOMParser().parseFromString(said, "text/html").body;
    // What has not changed is left alone, so that a screen reader says only what is new.
    if (there.textContent.trim() !== here.textContent.trim()) {
      here.replaceChildren(...document.adoptNode(there).childNodes);
    }
  } catch {
    // The server is away for a moment: look again.
  }
  setTimeout(lookAtTargets, LOOK_EVERY);
}

setTimeout(lookAtTargets, LOOK_EVERY);
