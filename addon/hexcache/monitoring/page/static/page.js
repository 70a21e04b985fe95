// The page works without this. With it, what changes is shown without a reload, a lock file can be
// dropped, and what is to be pasted can be copied with a button.
"use strict";

const EVERY = 5000;
const COPIED_FOR = 3000;
let asking = false;
// By id: each part as the server sent it last.
const sent = new Map();

function parts(page) {
  return page.querySelectorAll("#live [data-part]");
}

// Whether somebody reads it with the keyboard, or has selected something in it.
function isHeld(part) {
  if (part.contains(document.activeElement)) return true;
  const selection = getSelection();
  return (
    selection.rangeCount > 0 &&
    !selection.isCollapsed &&
    selection.getRangeAt(0).intersectsNode(part)
  );
}

function show(fresh) {
  for (const now of fresh.querySelectorAll("#live [id]")) {
    const old = document.getElementById(now.id);
    if (!old) continue;
    old.className = now.className;
    old.hidden = now.hidden;
  }
  for (const now of parts(fresh)) {
    const old = document.getElementById(now.id);
    if (!old || sent.get(now.id) === now.innerHTML || isHeld(old)) continue;
    sent.set(now.id, now.innerHTML);
    const { scrollLeft: left = 0, scrollTop: top = 0 } = old.querySelector(".scroll") ?? {};
    old.replaceChildren(...now.childNodes);
    old.querySelector(".scroll")?.scrollTo(left, top);
    copyButtons(old);
  }
  document.title = fresh.title;
}

async function refresh() {
  const live = document.getElementById("live");
  if (!live || document.hidden || asking) return;
  asking = true;
  try {
    const answer = await fetch(location.href, {
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(EVERY),
    });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (fresh.getElementById("live")) show(fresh);
    document.getElementById("lost").hidden = true;
  } catch {
    document.getElementById("lost").hidden = false;
  } finally {
    asking = false;
  }
}

async function copy(pre) {
  // Only there where the address is https: or loopback.
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      return true;
    } catch {
      // Not allowed: as where there is none.
    }
  }
  const selection = getSelection();
  selection.selectAllChildren(pre);
  const copied = document.execCommand("copy");
  // Otherwise it stays selected, for the keyboard.
  if (copied) selection.removeAllRanges();
  return copied;
}

function copyButtons(within) {
  for (const pre of within.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    const said = document.createElement("span");
    said.className = "heard";
    said.setAttribute("role", "status");
    let timer = 0;
    button.addEventListener("click", async () => {
      const text = (await copy(pre)) ? "Copied" : "Selected: press Ctrl+C";
      button.textContent = said.textContent = text;
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = "Copy";
        said.textContent = "";
      }, COPIED_FOR);
    });
    pre.after(button, said);
  }
}

function dropping() {
  const form = document.querySelector("form.drop");
  if (!form) return;
  const input = form.querySelector("input[type=file]");
  addEventListener("dragover", (event) => {
    event.preventDefault();
    form.classList.add("over");
  });
  addEventListener("dragleave", () => form.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
  input.addEventListener("change", () => form.requestSubmit());
}

if (document.getElementById("live")) {
  for (const part of parts(document)) sent.set(part.id, part.innerHTML);
  setInterval(refresh, EVERY);
  document.addEventListener("visibilitychange", refresh);
}
copyButtons(document);
dropping();
