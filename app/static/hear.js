// Files that a visitor sends, one after the other, and what was heard in each.
import { ask, bars, clock, dot, element, percent } from "./common.js";
import { Player } from "./player.js";

const heard = document.getElementById("heard");
const drop = document.getElementById("drop");
const files = document.getElementById("files");
const NONE = 0.5;
let queue = Promise.resolve();

const form = (file) => {
  const body = new FormData();
  body.append("file", file, file.name);
  return { method: "POST", body };
};

function add(file) {
  const card = element("article", { class: "card" }, element("h2", {}, file.name), element("p", { class: "quiet" }, "Listening …"));
  heard.prepend(card);
  queue = queue.then(() => hear(file, card));
}

async function hear(file, card) {
  let found;
  try {
    found = await ask("/api/hear?picture=true", form(file));
  } catch (error) {
    const why = error instanceof TypeError ? `${file.name}: the server does not answer, or has refused a file of this size` : error.message;
    const again = element("button", { type: "button", onclick: () => { card.remove(); add(file); } }, "Try again");
    card.replaceChildren(element("h2", {}, file.name), element("p", { class: "error", role: "alert" }, why), again);
    return;
  }
  const place = element("div");
  const { audio } = found;
  const doubt = found.unknown > NONE ? element("span", { class: "doubt" }, " perhaps none of these genres") : null;
  const json = new Blob([JSON.stringify({ ...found, picture: undefined }, null, 2)], { type: "application/json" });
  card.replaceChildren(
    element("h2", {}, file.name),
    element("p", { class: "answer" }, "Heard: ", element("b", {}, dot(found.genre), found.genre), ` ${percent(found.confidence)}`, doubt),
    place,
    bars(withTop(found), found.scores.length),
    element("p", { class: "quiet" }, `${clock(audio.duration_s)}, ${audio.container}, ${audio.codec}, ${audio.sample_rate_hz / 1000} kHz, ${audio.channels === 1 ? "mono" : `${audio.channels} channels`}. `,
      found.genre_before.length ? `In the file: ${found.genre_before.join("; ")}. ` : "",
      element("a", { href: URL.createObjectURL(json), download: `${file.name}.json` }, "JSON")),
  );
  let converted = false;
  const player = new Player(place, {
    failed: async () => {
      if (converted) return;
      converted = true;
      const answer = await fetch("/api/sound", form(file));
      if (answer.ok) player.sound.src = URL.createObjectURL(await answer.blob());
    },
  });
  player.open(URL.createObjectURL(file), audio.duration_s);
  player.showScores({ labels: found.labels, starts_s: found.times_s, scores: found.timeline });
  player.showPicture(found.picture);
}

// The bars show the scores of the vote where it has told them, else the means over the track.
function withTop(found) {
  const told = new Map(found.top.map(({ genre, score }) => [genre, score]));
  return found.scores.map(({ genre, score }) => ({ genre, score: told.get(genre) ?? score })).sort((a, b) => b.score - a.score);
}

// Twelve seconds of a chord progression with a beat, made here.
function sample() {
  const rate = 22050, seconds = 12, samples = new Int16Array(rate * seconds);
  const chords = [[0, 4, 7], [5, 9, 12], [7, 11, 14], [0, 4, 7]];
  for (let i = 0; i < samples.length; i++) {
    const t = i / rate, beat = (t * 2) % 1, chord = chords[Math.floor(t / 2) % 4];
    let sum = (Math.random() - 0.5) * 0.6 * Math.exp(-25 * beat);
    for (const note of [...chord, chord[0] - 12]) for (let h = 1; h < 6; h++) sum += (Math.sin(2 * Math.PI * h * 220 * 2 ** (note / 12) * t) / h ** 1.3) * 0.16 * Math.exp(-1.2 * beat);
    samples[i] = Math.max(-1, Math.min(1, 0.6 * sum)) * 32767;
  }
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((char, i) => header.setUint8(at + i, char.charCodeAt(0)));
  text(0, "RIFF"); header.setUint32(4, 36 + samples.byteLength, true); text(8, "WAVEfmt "); header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); header.setUint16(22, 1, true); header.setUint32(24, rate, true); header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true); header.setUint16(34, 16, true); text(36, "data"); header.setUint32(40, samples.byteLength, true);
  return new File([header, samples], "sample.wav", { type: "audio/wav" });
}

files.addEventListener("change", () => {
  [...files.files].forEach(add);
  files.value = "";
});
document.getElementById("sample").addEventListener("click", () => add(sample()));
for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  [...event.dataTransfer.files].forEach(add);
});
