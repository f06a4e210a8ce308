// Updates the page. Without this script the page is complete, but people must reload it by hand.
"use strict";

const EVERY_MS = 1000;
const main = document.querySelector("main");
const live = document.querySelector(".live");
let tag = `"${main.dataset.version}"`;

function replaceWith(html) {
  const next = new DOMParser().parseFromString(html, "text/html").body;
  const known = new Map();
  for (const node of main.querySelectorAll("[data-id]")) known.set(node.dataset.id, node);
  for (const node of next.querySelectorAll("[data-id]")) {
    const old = known.get(node.dataset.id);
    if (old) {
      // A stored file never changes, so keep its node: a new one would make its picture flicker.
      old.classList.remove("new");
      node.replaceWith(old);
    } else {
      node.classList.add("new");
    }
  }
  main.replaceChildren(...next.childNodes);
}

async function refresh() {
  const answer = await fetch(main.dataset.fragment, { headers: { "If-None-Match": tag }, cache: "no-store" });
  if (answer.status === 200) {
    replaceWith(await answer.text());
    tag = answer.headers.get("ETag");
  }
}

async function tick() {
  if (!document.hidden) {
    try {
      await refresh();
      live.textContent = "live";
      live.classList.remove("lost");
    } catch {
      live.textContent = "not reachable";
      live.classList.add("lost");
    }
    live.hidden = false;
  }
  setTimeout(tick, EVERY_MS);
}

tick();
