"use strict";
// Every two seconds the badge and the part of the page that changes are fetched anew; without scripts the page
// reloads itself. Nothing that was true once stays green when nobody answers any more.
const main = document.querySelector("main");
const unreachable = () => {
  const badge = document.querySelector("header .state .badge");
  badge.className = "badge bad";
  badge.textContent = "unreachable";
  document.querySelector("header .state .reason")?.remove();
};
const again = async () => {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { "X-Part": "main" } });
      if (answer.status === 401) location.href = "/login";
      if (answer.ok) {
        const part = document.createElement("template");
        part.innerHTML = await answer.text();
        document.querySelector("header .state").replaceWith(part.content.querySelector(".state"));
        if ("live" in main.dataset) main.replaceChildren(part.content);
      } else unreachable();
    } catch { unreachable(); }
  }
  setTimeout(again, 2000);
};
setTimeout(again, 2000);
