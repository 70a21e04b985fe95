// The page works without this. With it, what changes is shown without a reload, a lock file can be
// dropped, and what is to be pasted can be copied with a button.
"use strict";

const EVERY = 5000;
let asking = false;

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
    const replacement = fresh.getElementById("live");
    if (replacement) {
      // What somebody is reading with the keyboard stays; the rest changes around it.
      const focused = live.contains(document.activeElement);
      const parts = focused ? ".state, .tiles, .charts" : "#live";
      const old = focused ? live.querySelectorAll(parts) : [live];
      const now = focused ? replacement.querySelectorAll(parts) : [replacement];
      old.forEach((part, index) => {
        if (now[index]) part.replaceWith(document.adoptNode(now[index]));
      });
      document.title = fresh.title;
    }
    document.getElementById("lost").hidden = true;
  } catch {
    document.getElementById("lost").hidden = false;
  } finally {
    asking = false;
  }
}

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const pre of document.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
    });
    pre.after(button);
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
  setInterval(refresh, EVERY);
  document.addEventListener("visibilitychange", refresh);
}
copyButtons();
dropping();
