// Server-sent events replace the part of the page that changes. Without script the page reloads itself.
"use strict";

const live = document.getElementById("live");
const asOf = document.getElementById("as-of");
let waiting = null;

function busy() {
  // Do not replace a button under the pointer, or selected text.
  const selection = document.getSelection();
  return live.matches(":has(button:hover, button:focus)") || (selection && !selection.isCollapsed && live.contains(selection.anchorNode));
}

function show() {
  if (waiting !== null && !busy()) {
    live.innerHTML = waiting;
    waiting = null;
  }
}

function here() {
  document.body.classList.remove("gone");
  asOf.textContent = "";
}

// What a button has done is news for a while.
setTimeout(() => document.querySelector(".said")?.remove(), 30000);

const events = new EventSource("events");
events.onmessage = (event) => {
  waiting = JSON.parse(event.data);
  here();
  show();
};
events.addEventListener("quiet", here);
events.onerror = () => {
  if (!document.body.classList.contains("gone")) {
    document.body.classList.add("gone");
    const at = new Date().toLocaleTimeString([], { hour12: false });
    asOf.textContent = "No connection: attachd may have stopped. This page shows the state of " + at + ".";
  }
};
setInterval(show, 500);
