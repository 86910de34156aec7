/** The page's frame: heading, ways to the views, theme, and the address bar as the one place of state. */

import { render } from "preact";
import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import { live } from "./api/client";
import type { Place, ViewName } from "./domain/address";
import { read, write } from "./domain/address";
import { timeOfDay } from "./domain/format";
import { icon, mark } from "./marks/icons";
import "./style/base.css";
import "./style/flows.css";
import "./style/board.css";
import "./style/logs.css";
import { BoardView } from "./views/board";
import { FlowsView } from "./views/flows";
import { LogsView } from "./views/logs";
import type { Going } from "./views/place";
import { PolicyView } from "./views/policy";

const VIEWS: readonly (readonly [ViewName, string])[] = [["flows", "Flow Visualizer"], ["board", "Policy Board"], ["logs", "Flow Logs"]];
const TITLES: Readonly<Record<ViewName, string>> = { flows: "Flow Visualizer", board: "Policy Board", policy: "Policy", logs: "Flow Logs" };
const THEMES = [["", "screen", "System theme"], ["light", "sun", "Light theme"], ["dark", "moon", "Dark theme"]] as const;
/** A burst of newer flow logs asks once. */
const SETTLE_MS = 1000;

function Page(): VNode {
  const [place, setPlace] = useState<Place>(() => read(location.pathname, location.search));
  const [tick, setTick] = useState(0);
  const [lostAt, setLostAt] = useState<number | null>(null);
  useEffect(() => {
    const back = (): void => setPlace(read(location.pathname, location.search));
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = live(() => { clearTimeout(timer); timer = setTimeout(() => setTick((last) => last + 1), SETTLE_MS); }, (connected) => setLostAt((last) => (connected ? null : (last ?? Date.now() / 1000))));
    return () => { clearTimeout(timer); stop(); };
  }, []);
  useEffect(() => { document.title = `${TITLES[place.view]} · tierflow`; }, [place.view]);

  const visit = (next: Place, replace = false): void => {
    const address = write(next);
    if (replace) history.replaceState(null, "", address);
    else if (address !== location.pathname + location.search) history.pushState(null, "", address);
    setPlace(next);
  };
  const going: Going = {
    place,
    tick,
    choose: (choice) => visit({ ...place, choice: { ...place.choice, ...choice } }, "text" in choice),
    filter: (filter) => visit({ ...place, filter }),
    go: (view, choice = {}, filter = { ...place.filter, conditions: [] }) => visit({ view, choice, filter }),
  };
  return (
    <>
      <header class="top">
        <a class="skip" href="#main">Skip to content</a>
        <span class="brand">{mark()}tierflow</span>
        <nav aria-label="Views">{VIEWS.map(([view, label]) => <a key={view} href={`/${view}`} aria-current={place.view === view || (place.view === "policy" && view === "board") ? "page" : undefined} onClick={(event) => { if (event.ctrlKey || event.metaKey || event.shiftKey) return; event.preventDefault(); going.go(view); }}>{label}</a>)}</nav>
        <span class={`live ${lostAt === null ? "on" : ""}`} role="status" title={lostAt === null ? "The page follows newer flow logs" : undefined}>{lostAt === null ? "live" : "not live"}</span>
        <Theme />
      </header>
      {lostAt === null ? null : (
        <p class="stale lost" role="status">
          <strong>Not live since {timeOfDay(lostAt)}.</strong> The console's server doesn't answer, or refuses: what stands here is from before. It is asked again every few seconds; see whether <code>tierflow console</code> still runs.
        </p>
      )}
      <main id="main" tabIndex={-1}>
        {place.view === "policy" ? null : <h1 class="visually-hidden">{TITLES[place.view]}</h1>}
        {place.view === "flows" ? <FlowsView going={going} /> : place.view === "board" ? <BoardView going={going} /> : place.view === "policy" ? <PolicyView going={going} /> : <LogsView going={going} />}
      </main>
    </>
  );
}

function Theme(): VNode {
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "");
  useEffect(() => { document.documentElement.dataset["theme"] = theme; localStorage.setItem("theme", theme); }, [theme]);
  const at = Math.max(0, THEMES.findIndex(([name]) => name === theme));
  const [, shape, label] = THEMES[at] ?? THEMES[0];
  const next = THEMES[(at + 1) % THEMES.length] ?? THEMES[0];
  return <button class="theme" aria-label={`${label}; change to ${next[2].toLowerCase()}`} title={label} onClick={() => setTheme(next[0])}>{icon(shape)}</button>;
}

const root = document.getElementById("page");
if (root !== null) render(<Page />, root);
