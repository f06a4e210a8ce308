// What is new comes as server-sent events, and replaces the part of the page that changes. Without this the page loads itself anew.
"use strict";

const live = document.getElementById("live");
const asOf = document.getElementById("as-of");
let waiting = null;

function busy() {
  // A button that is about to be pressed, or a sentence that is being copied, stays where it is.
  const selection = document.getSelection();
  return live.matches(":has(button:hover, button:focus)") || (selection && !selection.isCollapsed && live.contains(selection.anchorNode));
}

function show() {
  if (waiting !== null && !busy()) {
    live.innerHTML = waiting;
    waiting = null;
  }
}

const events = new EventSource("events");
events.onmessage = (event) => {
  waiting = JSON.parse(event.data);
  asOf.textContent = "";
  show();
};
events.addEventListener("quiet", () => {
  asOf.textContent = "";
});
events.onerror = () => {
  asOf.textContent = asOf.textContent || "No connection: this is how it stood at " + new Date().toLocaleTimeString() + ".";
};
setInterval(show, 500);
