"use strict";
// Every two seconds the part of the page that changes is fetched anew; without scripts the page reloads itself.
const live = document.querySelector("main[data-live]");
if (live) {
  const again = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { headers: { "X-Part": "main" } });
        if (answer.status === 401) location.href = "/login";
        if (answer.ok) live.innerHTML = await answer.text();
      } catch { document.title = "unreachable"; }
    }
    setTimeout(again, 2000);
  };
  setTimeout(again, 2000);
}
