// What would be written into the files, with the effect of each control at once; then writing, and undo.
import { ask, attempt, bars, dot, element, percent } from "./common.js";

const $ = (id) => document.getElementById(id);
const STEP = 100;
let latest = 0;
let found = null;
let shown = 0;

const count = (number) => number.toLocaleString("en");

function query() {
  const params = new URLSearchParams(location.search); // the list's filter, where the page was opened from one
  for (const name of ["track", "order", "descending", "like"]) params.delete(name);
  for (const [name, value] of new FormData($("controls"))) params.set(name, value);
  return params;
}

async function look() {
  const mine = ++latest;
  $("sure").textContent = percent(Number($("controls").elements.min_confidence.value));
  const answer = await attempt(() => ask(`/api/write/preview?${query()}&limit=${STEP}`));
  if (!answer || mine !== latest) return;
  found = answer;
  $("write").textContent = found.total ? `Write into ${count(found.total)} files …` : "Nothing to write";
  $("write").disabled = found.total === 0;
  $("outcomes").replaceChildren(
    ...found.outcomes.map(({ meaning, tracks }) => element("tr", {}, element("td", { class: "number" }, count(tracks)), element("td", {}, meaning))),
  );
  const most = Math.max(1, ...found.genres.map(({ files }) => files));
  const list = bars(found.genres.map(({ genre, files }) => ({ genre, score: files / most })), 40);
  [...list.children].forEach((row, i) => (row.lastChild.textContent = count(found.genres[i].files)));
  $("genres").replaceChildren(found.genres.length ? list : "None.");
  shown = 0;
  $("changes").tBodies[0].replaceChildren();
  add(found.changes);
}

function add(changes) {
  $("changes").tBodies[0].append(
    ...changes.map((one) =>
      element(
        "tr",
        {},
        element("td", {}, element("a", { href: `/?${new URLSearchParams({ track: one.track_id })}` }, one.title || one.track_id), element("span", { class: "quiet" }, ` ${one.artist}`)),
        element("td", {}, one.before || "–"),
        element("td", {}, dot(one.after), one.after),
        element("td", { class: "number" }, one.corrected ? element("span", { class: "said" }, "your word") : percent(one.confidence)),
      ),
    ),
  );
  shown += changes.length;
  $("more").hidden = shown >= found.total;
}

async function sure(question, yes) {
  $("question").textContent = question;
  $("yes").textContent = yes;
  $("sure-dialog").returnValue = "no";
  $("sure-dialog").showModal();
  await new Promise((done) => $("sure-dialog").addEventListener("close", done, { once: true }));
  return $("sure-dialog").returnValue === "yes";
}

async function follow() {
  const state = await attempt(() => ask("/api/write"));
  if (!state) return setTimeout(follow, 2000);
  const what = state.kind === "undo" ? "Putting back" : "Writing";
  $("running").hidden = !state.is_running;
  $("write").disabled = state.is_running || !found?.total;
  $("undo").disabled = state.is_running;
  $("doing").textContent = `${what}: ${count(state.done)} of ${count(state.total)} files looked at`;
  $("progress").max = state.total || 1;
  $("progress").value = state.done;
  const errors = Object.entries(state.errors).map(([name, number]) => `${count(number)} ${name}`);
  $("ended").textContent = state.is_running ? "" : [state.message, ...errors].filter(Boolean).join("; ");
  if (state.is_running) return setTimeout(follow, 250);
  await look();
  return undefined;
}

async function begin(path) {
  if (await attempt(() => ask(path, { method: "POST" }))) follow();
}

$("controls").addEventListener("input", look);
$("controls").addEventListener("submit", (event) => event.preventDefault());
$("write").addEventListener("click", async () => {
  if (await sure(`Write genres into ${count(found.total)} files?`, "Write")) begin(`/api/write?${query()}`);
});
$("undo").addEventListener("click", async () => {
  if (await sure("Put back the genres that were in the files before anything of this folder was written?", "Undo")) begin("/api/undo");
});
$("stop").addEventListener("click", () => attempt(() => ask("/api/write/stop", { method: "POST" })));
$("more").addEventListener("click", async () => {
  const more = await attempt(() => ask(`/api/write/preview?${query()}&limit=${STEP}&offset=${shown}`));
  if (more) add(more.changes);
});
if (location.search) {
  const named = [...new URLSearchParams(location.search)].filter(([name]) => !["track", "order", "descending", "like"].includes(name)).map(([, value]) => value);
  $("listed").hidden = named.length === 0;
  $("listed").replaceChildren(`Only tracks of the list: ${named.join(", ")}. `, element("a", { href: "/write" }, "All tracks"));
}
follow();
