// A player: a sound, the genres over time from stored scores, and a spectrogram when it is there. A click seeks.
import { clock, colourOf, element } from "./common.js";

const COLOURED = 6; // genres with a colour of their own; the rest is grey

export class Player {
  constructor(place, { ended = () => {}, failed = () => {} } = {}) {
    this.place = place;
    this.failed = failed;
    this.ended = ended;
    this.duration_s = 0;
    this.next = null;
    this.picture = element("canvas", { class: "picture", hidden: true });
    this.scores = element("canvas", { class: "scores" });
    this.line = element("div", { class: "line", hidden: true });
    this.timeline = element(
      "div",
      { class: "timeline", role: "slider", tabindex: 0, "aria-label": "Position in the track", "aria-valuemin": 0 },
      this.picture,
      this.scores,
      this.line,
    );
    this.legend = element("ul", { class: "legend" });
    this.sound = this.#made("");
    this.holder = element("div", { class: "sound" }, this.sound);
    place.replaceChildren(this.holder, this.timeline, this.legend);
    this.timeline.addEventListener("pointerdown", (event) => {
      this.timeline.setPointerCapture(event.pointerId);
      this.#seek(event);
    });
    this.timeline.addEventListener("pointermove", (event) => event.buttons && this.#seek(event));
    this.timeline.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
      if (step) {
        event.preventDefault();
        event.stopPropagation();
        this.skip(step);
      }
    });
    new ResizeObserver(() => this.#draw()).observe(this.timeline);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    const follow = () => {
      this.#follow();
      requestAnimationFrame(follow);
    };
    requestAnimationFrame(follow);
  }

  #made(source) {
    const sound = element("audio", { preload: "auto", controls: true });
    sound.addEventListener("ended", () => sound === this.sound && this.ended());
    sound.addEventListener("error", () => sound === this.sound && sound.src && this.failed(sound));
    if (source) sound.src = source;
    return sound;
  }

  // The sound of another track; one that was fetched before begins at once.
  open(source, duration_s) {
    if (this.next && this.next.dataset.source === source) {
      const former = this.sound;
      this.sound = this.next;
      this.next = null;
      former.pause();
      former.removeAttribute("src");
      this.holder.replaceChildren(this.sound);
    } else {
      this.sound.pause();
      this.sound.src = source;
    }
    this.sound.dataset.source = source;
    this.duration_s = duration_s;
    this.track = null;
    this.levels = null;
    this.picture.hidden = true;
    this.scores.hidden = false;
    this.legend.replaceChildren();
    this.#draw();
  }

  fetchNext(source) {
    if (this.next?.dataset.source === source || this.sound.dataset.source === source) return;
    this.next = this.#made(source);
    this.next.dataset.source = source;
  }

  play() {
    this.sound.play().catch(() => {}); // a browser may want a click first; the button is there
  }

  toggle() {
    if (this.sound.paused) this.play();
    else this.sound.pause();
  }

  skip(seconds) {
    this.sound.currentTime = Math.max(0, Math.min(this.length, this.sound.currentTime + seconds));
  }

  get length() {
    return Number.isFinite(this.sound.duration) && this.sound.duration > 0 ? Math.max(this.sound.duration, this.duration_s || 0) : this.duration_s || 1;
  }

  #seek(event) {
    const box = this.timeline.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    this.sound.currentTime = share * this.length;
    this.#follow();
  }

  #follow() {
    const at = this.sound.currentTime;
    this.line.hidden = at === 0;
    this.line.style.left = `${Math.min(100, (100 * at) / this.length)}%`;
    if (Math.round(at) !== this.said) {
      this.said = Math.round(at);
      this.timeline.setAttribute("aria-valuenow", this.said);
      this.timeline.setAttribute("aria-valuemax", Math.round(this.length));
      this.timeline.setAttribute("aria-valuetext", `${clock(at)} of ${clock(this.length)}${this.#heardAt(at)}`);
    }
  }

  #heardAt(at) {
    if (!this.track?.scores.length) return "";
    const { labels, starts_s, scores } = this.track;
    let chunk = 0;
    while (chunk + 1 < starts_s.length && starts_s[chunk + 1] <= at) chunk++;
    const best = scores[chunk].indexOf(Math.max(...scores[chunk]));
    return scores[chunk][best] > 0 ? `, ${labels[best]}` : "";
  }

  // labels, starts_s and scores [chunks][labels]
  showScores(track) {
    this.track = track;
    const sums = track.labels.map((label, i) => [track.scores.reduce((sum, chunk) => sum + chunk[i], 0), label, i]);
    this.coloured = sums.sort((a, b) => b[0] - a[0]).filter(([sum]) => sum > 0).slice(0, COLOURED);
    this.legend.replaceChildren(
      ...this.coloured.map(([, label]) => {
        const swatch = element("span", { class: "dot" });
        swatch.style.background = colourOf(label);
        return element("li", {}, swatch, label);
      }),
    );
    this.scores.hidden = !track.scores.length; // words that were learned later have no scores over time
    this.timeline.title = track.scores.length ? "Genres over time. A click goes there." : "";
    this.#draw();
  }

  showPicture({ columns, bands, levels }) {
    this.levels = { columns, bands, bytes: Uint8Array.from(atob(levels), (char) => char.charCodeAt(0)) };
    this.picture.hidden = false;
    this.#draw();
  }

  #draw() {
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.picture, this.scores]) {
      canvas.width = canvas.clientWidth * ratio;
      canvas.height = canvas.clientHeight * ratio;
    }
    if (this.levels && this.picture.width) this.#drawPicture();
    if (this.scores.width) this.#drawScores();
  }

  #drawPicture() {
    const { columns, bands, bytes } = this.levels;
    const small = new ImageData(columns, bands);
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    for (let x = 0; x < columns; x++) {
      for (let band = 0; band < bands; band++) {
        const at = 4 * ((bands - 1 - band) * columns + x);
        const level = bytes[x * bands + band];
        const share = level / 255;
        small.data[at] = isDark ? 20 + 235 * share ** 2.2 : 250 - 245 * share ** 1.5;
        small.data[at + 1] = isDark ? 24 + 170 * share ** 1.8 : 251 - 180 * share ** 1.5;
        small.data[at + 2] = isDark ? 40 + 90 * Math.sin(Math.PI * share) : 253 - 110 * share ** 1.5;
        small.data[at + 3] = 255;
      }
    }
    const from = element("canvas", { width: columns, height: bands });
    from.getContext("2d").putImageData(small, 0, 0);
    const context = this.picture.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.drawImage(from, 0, 0, this.picture.width, this.picture.height);
  }

  #drawScores() {
    const context = this.scores.getContext("2d");
    const { width, height } = this.scores;
    context.clearRect(0, 0, width, height);
    const { starts_s = [], scores = [] } = this.track ?? {};
    const step = starts_s.length > 1 ? starts_s[1] - starts_s[0] : this.length;
    scores.forEach((chunk, i) => {
      const left = (starts_s[i] / this.length) * width;
      const end = i + 1 < starts_s.length ? starts_s[i + 1] : Math.min(this.length, starts_s[i] + 2 * step);
      const right = Math.min(width, (end / this.length) * width);
      const total = Math.max(1, chunk.reduce((sum, score) => sum + score, 0));
      let top = height;
      for (const [, label, at] of this.coloured) {
        const tall = (chunk[at] / total) * height;
        context.fillStyle = colourOf(label);
        context.fillRect(left, top - tall, Math.max(1, right - left - 0.5), tall);
        top -= tall;
      }
      const rest = chunk.reduce((sum, score) => sum + score, 0) / total - (height - top) / height;
      context.fillStyle = "hsl(0 0% 60% / 0.5)";
      context.fillRect(left, top - rest * height, Math.max(1, right - left - 0.5), rest * height);
    });
  }
}
