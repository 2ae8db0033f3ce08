// The catalog: its list, the chosen track, corrections, and the keys for all of it.
import { ask, attempt, bars, clock, dot, element, isTyping, named, percent, say, tell } from "./common.js";
import { GenreBox } from "./genrebox.js";
import { TrackList } from "./list.js";
import { Player } from "./player.js";

const $ = (id) => document.getElementById(id);
const FIELDS = ["q", "show", "genre", "folder", "like", "order", "descending", "confidence_from", "confidence_to"];
const DIGITS = "1234567890";
// Lists from which a track may go when it is corrected.
const CHANGING = new Set(["unsure", "none", "open", "corrected", "check", "next"]);
const PASSED_BY_MS = 350; // a track that is only passed by costs no decoding

let words = [];
let chosen = null; // the row of the track that is shown
let details = null;
const done = []; // what corrections replaced, the latest last
let pictured = 0;

const list = new TrackList($("list"), { choose, changed: showCount });
const player = new Player($("player"), {
  ended: () => step(1, { play: true }),
  failed: () => say(`${chosen?.title ?? "It"} cannot be played; the reason is below.`, { isError: true }),
});
const box = new GenreBox($("own"), $("proposals"), { words: () => words, save: (genre) => correct(genre) });

// The filter is in the address, so that it can be kept and sent.
function filter() {
  const given = new URLSearchParams(location.search);
  const query = new URLSearchParams();
  for (const name of FIELDS) for (const value of given.getAll(name)) if (value) query.append(name, value);
  return query;
}

function address(changes, { push = false } = {}) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const there = query.size ? `?${query}` : location.pathname;
  history[push ? "pushState" : "replaceState"](null, "", there);
}

async function narrow(changes) {
  if (changes.show === "rejected") {
    location.href = "/rejected";
    return false;
  }
  address(changes, { push: true });
  return reload(chosen?.track_id ?? "");
}

async function reload(around = "") {
  showFilter();
  return attempt(() => list.load(filter(), around));
}

function showFilter() {
  const query = filter();
  for (const name of ["q", "show", "genre"]) if (document.activeElement !== $(name)) $(name).value = query.get(name) ?? "";
  const order = query.get("order") ?? (query.get("show") === "check" || query.get("like") ? "match" : "confidence");
  for (const head of $("heads").querySelectorAll("button")) {
    const on = head.dataset.order === order;
    head.dataset.sorted = on ? (query.get("descending") ? "down" : "up") : "";
    head.parentElement.setAttribute("aria-sort", !on ? "none" : query.get("descending") ? "descending" : "ascending");
    head.setAttribute("aria-label", `Sort by ${head.textContent}${on ? (query.get("descending") ? ", now descending" : ", now ascending") : ""}`);
  }
  const chips = [];
  const chip = (text, ...names) =>
    chips.push(element("button", { type: "button", class: "chip", title: "remove this filter", onclick: () => narrow(Object.fromEntries(names.map((name) => [name, ""]))) }, `${text} ×`));
  if (query.get("folder")) chip(`in ${query.get("folder")}`, "folder");
  if (query.get("like")) chip(`like ${query.get("like").split("/").at(-1)}`, "like", "order");
  if (query.get("confidence_from") || query.get("confidence_to"))
    chip(`${percent(query.get("confidence_from") || 0)} to ${percent(query.get("confidence_to") || 1)} sure`, "confidence_from", "confidence_to");
  $("narrowed").replaceChildren(...chips);
  $("write-these").href = `/write?${query}`;
  const isLearned = ["check", "next"].includes(query.get("show"));
  $("list").dataset.empty = isLearned ? "None. The page Your words finds them." : "No track is like that.";
}

function showCount() {
  const n = list.selected.size;
  $("count").textContent = `${list.total.toLocaleString("en")} ${list.total === 1 ? "track" : "tracks"}${n ? `, ${n.toLocaleString("en")} selected` : ""}`;
  $("list").classList.toggle("nothing", list.total === 0);
  $("scope").options[2].disabled = n === 0;
  if (n === 0 && $("scope").value === "selected") $("scope").value = "track";
  else if (n > 0) $("scope").value = "selected";
}

async function loadWords() {
  const found = await attempt(() => ask("/api/words"));
  if (!found) return;
  words = found.words;
  const current = filter().get("genre") ?? "";
  const options = found.genres.map(({ genre, name, tracks }) => element("option", { value: genre }, `${name} (${tracks.toLocaleString("en")})`));
  $("genre").replaceChildren(element("option", { value: "" }, "Any genre"), ...options);
  $("genre").value = current;
  if (chosen) showWords();
}

// A track is shown from what the list knows; sound, scores and picture follow by themselves.
function choose(row, { play = false } = {}) {
  const other = chosen?.track_id !== row.track_id;
  const wasPlaying = chosen !== null && !player.sound.paused;
  chosen = row;
  $("track").hidden = false;
  address({ track: row.track_id });
  document.title = `${row.title} · genrebeam`;
  if (other) {
    details = null;
    box.clear();
    player.open(`/sound/${named(row.track_id)}`, row.duration_s);
    if (play || wasPlaying) player.play();
    $("scores").replaceChildren();
    $("facts").textContent = "";
    $("doubt").hidden = true;
    fill(row);
  } else if (play) player.play();
  showTrack();
}

async function fill(row) {
  const { track_id } = row;
  const is = () => chosen?.track_id === track_id;
  await Promise.all([
    attempt(async () => {
      const found = await ask(`/api/tracks/${named(track_id)}`);
      if (is()) showDetails(found);
    }),
    attempt(async () => {
      const found = await ask(`/api/timeline/${named(track_id)}`);
      if (!is()) return;
      player.showScores(found);
      $("scores").replaceChildren(bars(found.top));
    }),
  ]);
  if (!is()) return;
  const next = await list.row(list.cursor + 1);
  if (next && is()) player.fetchNext(`/sound/${named(next.track_id)}`);
  clearTimeout(pictured);
  pictured = setTimeout(async () => {
    if (!is()) return;
    try {
      const picture = await ask(`/api/picture/${named(track_id)}`);
      if (is()) player.showPicture(picture);
    } catch (error) {
      if (is()) $("facts").prepend(element("span", { class: "error", role: "alert" }, error.message, " "));
    }
  }, PASSED_BY_MS);
}

function showTrack() {
  $("title").textContent = chosen.title;
  $("names").textContent = [chosen.artist, chosen.album].filter(Boolean).join(" · ");
  const heard = ["Heard: ", element("b", {}, dot(chosen.heard), chosen.heard || "nothing"), ` ${percent(chosen.confidence)}`];
  if (chosen.none_of_these) heard.push(element("span", { class: "doubt" }, " perhaps none of these genres"));
  heard.push(chosen.file_genre ? ` · in the file: ${chosen.file_genre}` : " · no genre in the file");
  if (chosen.corrected) heard.push(" · ", element("b", { class: "said" }, `✓ ${chosen.genre}`));
  $("heard").replaceChildren(...heard);
  $("withdraw").hidden = !chosen.corrected;
  showWords();
}

function showWords() {
  const key = (name) => element("kbd", { "aria-hidden": "true" }, name);
  const buttons = [];
  if (chosen.heard)
    buttons.push(element("button", { type: "button", class: "right", "aria-keyshortcuts": "Y", onclick: () => correct(chosen.heard) }, `${chosen.heard} is right`, key("Y")));
  words.forEach((word, i) =>
    buttons.push(
      element(
        "button",
        { type: "button", class: chosen.corrected && chosen.genre === word ? "said" : null, "aria-keyshortcuts": DIGITS[i], onclick: () => correct(word) },
        dot(word),
        word,
        i < DIGITS.length ? key(DIGITS[i]) : null,
      ),
    ),
  );
  const focused = [...$("words").children].indexOf(document.activeElement);
  $("words").replaceChildren(...buttons);
  if (focused >= 0) buttons[Math.min(focused, buttons.length - 1)].focus();
}

function showDetails(found) {
  details = found;
  Object.assign(chosen, { genre: found.genre, corrected: found.corrected });
  showTrack();
  const facts = [found.track_id, [found.container, found.codec].filter(Boolean).join(", "), clock(found.duration_s), `heard by ${found.model_id}`];
  if (found.correction) facts.push(`${found.correction.genre}, said${found.correction.by ? ` by ${found.correction.by}` : ""} on ${found.correction.at.slice(0, 10)}`);
  if (found.undecoded_s) facts.push(`damaged: ${found.undecoded_s.toFixed(1)} s of it could not be decoded`);
  $("facts").append(facts.join(" · "));
  $("doubt").hidden = !found.doubt;
  if (!$("doubt").hidden) {
    const { words: own, heard, heard_score, score } = found.doubt;
    $("doubt").replaceChildren(
      `${found.corrected ? "You say" : "The file says"} ${own.join("; ")} (${percent(score)}); it sounds like ${heard} (${percent(heard_score)}). `,
      element("button", { type: "button", "aria-keyshortcuts": "E", onclick: () => correct(own.join("; ")) }, "Keep ", element("kbd", {}, "E")),
      " ",
      element("button", { type: "button", onclick: () => correct(heard) }, `Take ${heard} `, element("kbd", {}, "T")),
    );
  }
}

async function step(by, options) {
  const at = list.cursor < 0 ? (by > 0 ? 0 : -1) : list.cursor + by;
  const gone = await attempt(() => list.go(at, options));
  if (gone === null && options?.play) say(by > 0 ? "That was the last track of the list." : "That was the first track of the list.");
}

// One after the other: a key that is pressed while a correction is being saved is for the track that comes then.
let turn = Promise.resolve();
const inTurn = (work) => (turn = turn.then(work, work));
const correct = (genre) => inTurn(() => correctNow(genre));
const undo = () => inTurn(undoNow);

async function correctNow(genre) {
  const scope = $("scope").value;
  if (!chosen && scope !== "selected") return;
  const body = { tracks: {} };
  let what = chosen?.title;
  if (scope === "selected") {
    for (const id of list.selected.keys()) body.tracks[id] = genre;
    what = `${list.selected.size.toLocaleString("en")} tracks`;
  } else if (scope === "folder" && chosen.track_id.includes("/")) {
    body.folder = chosen.track_id.slice(0, chosen.track_id.lastIndexOf("/") + 1);
    body.genre = genre;
    what = `all of ${body.folder}`;
  } else body.tracks[chosen.track_id] = genre;
  const corrected = chosen;
  const next = scope === "track" && genre !== null && $("go-on").checked ? await list.row(list.cursor + 1) : null;
  const before = await attempt(() => tell("PUT", "/api/genres", body));
  if (!before) return;
  done.push(before.before);
  $("undo").disabled = false;
  say(`${what}: ${genre ?? "withdrawn"}`, { action: ["Undo", undo] });
  if (scope === "selected") list.selected.clear();
  if (scope !== "track") $("scope").value = "track";
  const goesOn = next && chosen === corrected; // not where somebody has chosen another track meanwhile
  await afterwards(Object.keys(before.before), goesOn ? next.track_id : "", genre, corrected);
}

async function afterwards(ids, nextId, genre, corrected) {
  const query = filter();
  if (!words.includes(genre ?? "")) loadWords();
  if (ids.length > 1 || CHANGING.has(query.get("show") ?? "") || query.get("genre")) {
    await reload(nextId || (chosen?.track_id ?? ""));
    const row = await list.row(list.cursor);
    if (row) {
      choose(row);
      if (!nextId) await refresh(row);
    } else if (chosen) await refresh(chosen);
    return;
  }
  const row = corrected?.track_id === ids[0] ? corrected : null;
  if (nextId) await step(1);
  if (row) await refresh(row);
}

// What the server now says of a row.
async function refresh(row) {
  const found = await attempt(() => ask(`/api/tracks/${named(row.track_id)}`));
  if (!found) return;
  Object.assign(row, { genre: found.genre, corrected: found.corrected, none_of_these: found.none_of_these });
  list.draw();
  if (chosen?.track_id === row.track_id) {
    chosen = row;
    $("facts").textContent = "";
    showDetails(found);
  }
}

async function undoNow() {
  const before = done.pop();
  $("undo").disabled = done.length === 0;
  if (!before) {
    say("There is nothing to undo.");
    return;
  }
  const undone = await attempt(() => tell("PUT", "/api/genres", { tracks: before }));
  if (!undone) {
    done.push(before);
    $("undo").disabled = false;
    return;
  }
  const ids = Object.keys(before);
  say(ids.length === 1 ? `Undone: ${ids[0].split("/").at(-1)}` : `Undone: ${ids.length.toLocaleString("en")} tracks`);
  await reload(ids[0]);
  const row = await list.row(list.cursor);
  if (row) {
    choose(row);
    await refresh(row);
  }
}

async function playAlike() {
  const like = { like: chosen.track_id, order: "", descending: "", show: "", q: "", genre: "", folder: "" };
  if ((await narrow(like)) && list.total) await attempt(() => list.go(0, { play: true }));
}

const folderOf = (trackId) => trackId.slice(0, trackId.lastIndexOf("/") + 1);
const KEYS = {
  " ": () => player.toggle(),
  n: () => step(1, { play: true }),
  p: () => step(-1, { play: true }),
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  ArrowRight: () => player.skip(5),
  ArrowLeft: () => player.skip(-5),
  Enter: () => chosen && player.play(),
  y: () => inTurn(() => chosen?.heard && correctNow(chosen.heard)),
  w: () => chosen?.corrected && correct(null),
  z: () => undo(),
  g: () => chosen && $("own").focus(),
  x: () => chosen && list.toggle(chosen),
  m: () => chosen && playAlike(),
  e: () => details?.doubt && correct(details.doubt.words.join("; ")),
  t: () => details?.doubt && correct(details.doubt.heard),
  "/": () => $("q").focus(),
  "?": () => $("keys").showModal(),
  Escape: () => {
    list.selected.clear();
    list.draw();
    showCount();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || $("keys").open) return;
  if (isTyping(event.target) && event.target.type !== "checkbox") {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, a, label, audio, input")) return;
  const digit = DIGITS.indexOf(event.key);
  const act = digit >= 0 && event.key.length === 1 ? () => chosen && words[digit] && correct(words[digit]) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

let typing;
$("q").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(async () => {
    address({ q: $("q").value });
    await reload(chosen?.track_id ?? "");
  }, 25);
});
$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  $("grid").focus();
});
$("show").addEventListener("change", () => narrow({ show: $("show").value, order: $("show").value === "check" ? "match" : "", descending: "" }));
$("genre").addEventListener("change", () => narrow({ genre: $("genre").value }));
$("heads").addEventListener("click", (event) => {
  const order = event.target.dataset.order;
  if (!order) return;
  const query = filter();
  const same = (query.get("order") ?? "confidence") === order;
  narrow({ order, descending: same && !query.get("descending") ? "true" : "" });
});
$("previous").addEventListener("click", () => step(-1, { play: true }));
$("following").addEventListener("click", () => step(1, { play: true }));
$("withdraw").addEventListener("click", () => correct(null));
$("undo").addEventListener("click", () => undo());
$("alike").addEventListener("click", KEYS.m);
$("folder").addEventListener("click", () => chosen && narrow({ folder: folderOf(chosen.track_id), like: "" }));
$("help").addEventListener("click", KEYS["?"]);
addEventListener("popstate", () => reload(new URLSearchParams(location.search).get("track") ?? ""));

async function begin() {
  const track = new URLSearchParams(location.search).get("track") ?? "";
  loadWords();
  await reload(track);
  if (list.cursor >= 0) {
    const row = await list.row(list.cursor);
    if (row) choose(row);
  } else if (track) {
    const found = await attempt(() => ask(`/api/tracks/${named(track)}`));
    if (found) choose(found);
  }
}
begin();
