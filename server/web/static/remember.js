// Remembers in this browser how somebody likes to read: nothing of it is sent.
"use strict";

for (const group of document.querySelectorAll("[data-remember]")) {
  const name = `arborgate.${group.dataset.remember}`;
  try {
    const chosen = group.querySelector(`input[value="${CSS.escape(localStorage.getItem(name) ?? "")}"]`);
    if (chosen) {
      chosen.checked = true;
    }
    group.addEventListener("change", (event) => localStorage.setItem(name, event.target.value));
  } catch {
    // A browser that keeps nothing: then it is as it was.
  }
}
