// Keeps the page of a proposal current: by the server's events, and by looking again where those do not come.
"use strict";

const EVERY = 2000;
const PATIENCE = 15000;
const path = location.pathname;
const parts = (page) => [...page.querySelectorAll("[data-live]")];
const read = (text) => new DOMParser().parseFromString(text, "text/html");
const typed = (node) => [...node.querySelectorAll("textarea")].some((one) => one.value !== one.defaultValue);

// What the server said of each part: what people do with it (unfold, type) is no news.
const said = new Map(parts(document).map((part) => [part.dataset.live, part.innerHTML]));
const state = () => document.querySelector('[data-live="state"]').textContent;

let source = null;
let timer = 0;
let over = false;

// The parts that say something else than before, each with what is to stand in its place.
function compare(page) {
  const found = [];
  for (const there of parts(page)) {
    const here = document.querySelector(`[data-live="${there.dataset.live}"]`);
    if (here && said.get(there.dataset.live) !== there.innerHTML) {
      found.push([here, there]);
    }
  }
  return found;
}

// Only these are touched, so that a screen reader says only what is new.
function put(changed) {
  for (const [here, there] of changed) {
    if (typed(here) && there.querySelector("textarea")) {
      continue; // somebody is writing here
    }
    const focused = here.contains(document.activeElement);
    said.set(there.dataset.live, there.innerHTML);
    here.replaceChildren(...document.adoptNode(there).childNodes);
    if (focused) {
      here.focus();
    }
  }
}

function reload() {
  if (typed(document)) {
    document.querySelector("[data-outdated]").hidden = false;
  } else {
    location.reload();
  }
}

// What the server tells by itself: how far applying has come. Another state is another page in more than that.
function hear(page) {
  const before = state();
  put(compare(page));
  if (state() !== before || parts(page).length === 1) {
    look();
  }
}

// The whole page as it is now.
function take(page) {
  const names = (one) => parts(one).map((part) => part.dataset.live).join();
  const changed = compare(page);
  if (names(page) !== names(document) || changed.some((both) => both.some((one) => one.querySelector("[data-sign]")))) {
    reload(); // what asks for a passkey is made once, with its page
    return;
  }
  put(changed);
  document.title = page.title;
}

async function look() {
  try {
    const answer = await fetch(path, { redirect: "manual" });
    if (answer.type === "opaqueredirect") {
      location.reload(); // logged out
    } else if (answer.ok) {
      take(read(await answer.text()));
    } else if (answer.status === 404) {
      over = true;
    }
  } catch {
    // The server is away for a moment: look again.
  }
}

function poll() {
  clearTimeout(timer);
  if (!over && !source && !document.hidden) {
    timer = setTimeout(() => look().then(poll), EVERY);
  }
}

function follow() {
  clearTimeout(timer);
  source?.close();
  source = null;
  if (over || document.hidden) {
    return; // nobody looks: the page asks anew when somebody does
  }
  source = new EventSource(`${path}/events?since=${document.querySelector("[data-mark]").dataset.mark}`);
  source.addEventListener("progress", (event) => hear(read(event.data)));
  source.addEventListener("ended", () => location.reload());
  source.addEventListener("over", () => {
    over = true;
    source.close();
    look();
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      source = null;
      poll();
      setTimeout(follow, PATIENCE);
    }
  });
}

document.addEventListener("visibilitychange", follow);
follow();
