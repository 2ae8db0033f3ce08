// What all pages use: questions to the server, messages, genres and their colours.

export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  const body = isJson ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(isJson && body.error ? body.error : `the server answers ${answer.status}`);
  return body;
}

export const tell = (method, path, body) =>
  ask(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// A track_id has slashes, which stay; all else is escaped. Addresses cannot say "..", and no track_id does.
export function named(trackId) {
  const parts = trackId.split("/");
  if (parts.some((part) => part === ".." || part === ".")) throw new Error("There is no such track in this catalog.");
  return parts.map(encodeURIComponent).join("/");
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

let hiding;
export function say(text, { isError = false, action = null } = {}) {
  const place = document.querySelector("#said");
  place.replaceChildren(element("span", {}, text));
  place.classList.toggle("error", isError);
  if (action) place.append(element("button", { type: "button", onclick: action[1] }, action[0]));
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (place.hidden = true), isError ? 12000 : 5000);
}

// Whatever fails is a sentence on the page.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer: is genrebeam app still running?" : error.message, {
      isError: true,
    });
    return undefined;
  }
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

export function clock(seconds) {
  const whole = Math.round(seconds || 0);
  const tail = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${tail}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${tail}`;
}

// A genre has one colour everywhere: this does what pipelines/tags/colours.py does, with its colours, which base.html.j2
// hands over. Names always stand beside colours.
const COLOURS = JSON.parse(document.getElementById("colours").textContent);
const NOT_WRITTEN = /[^\p{L}\p{N}]/gu;

export function colourOf(genre) {
  const key = genre.normalize("NFKD").toLowerCase().replaceAll("&", "and").replace(NOT_WRITTEN, "");
  return COLOURS[key] ?? ownColour(key || genre.trim());
}

function ownColour(key) {
  let crc = ~0; // CRC-32, as zlib has it
  for (const byte of new TextEncoder().encode(key)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const number = ~crc >>> 0;
  return `hsl(${number % 360} 50% ${40 + (Math.floor(number / 360) % 40)}%)`;
}

export const dot = (genre) => {
  const made = element("span", { class: "dot", "aria-hidden": "true" });
  made.style.background = genre ? colourOf(genre) : "transparent";
  return made;
};

// What a search in words compares: no case, no accents.
export const plain = (text) => text.normalize("NFKD").replace(/\p{Mn}/gu, "").toLowerCase();

export function bars(scores, most = 6) {
  return element(
    "ul",
    { class: "bars" },
    ...scores.slice(0, most).map(({ genre, score }) => {
      const bar = element("span", { class: "bar" });
      bar.style.width = `${Math.max(1, 100 * score)}%`;
      bar.style.background = colourOf(genre);
      return element("li", {}, element("span", { class: "name" }, genre), element("span", { class: "track" }, bar), element("span", { class: "figure" }, percent(score)));
    }),
  );
}

export const isTyping = (target) => target instanceof Element && target.matches("input, textarea, select, [contenteditable]");
