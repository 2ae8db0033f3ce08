// The list of tracks: as many rows as the catalog has, of which those are there that can be seen.
import { ask, clock, dot, element, percent } from "./common.js";

const PAGE = 100;
const TALLEST_PX = 12_000_000; // what every browser can scroll; longer lists scroll faster than the wheel
const SPARE = 6; // rows above and below what can be seen

export class TrackList {
  constructor(scroller, { choose, changed }) {
    this.scroller = scroller;
    this.grid = scroller.closest("[role=grid]");
    this.spacer = element("div", { class: "spacer" });
    scroller.replaceChildren(this.spacer);
    this.choose = choose;
    this.changed = changed;
    this.total = 0;
    this.cursor = -1;
    this.selected = new Map();
    this.pages = new Map();
    this.generation = 0;
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => {
      const bar = scroller.offsetWidth - scroller.clientWidth;
      scroller.previousElementSibling.style.marginRight = `${bar}px`; // heads stand above their columns
      this.#stretch();
      if (this.cursor >= 0) this.show(this.cursor);
      this.draw();
    }).observe(scroller);
    scroller.addEventListener("click", (event) => this.#clicked(event));
  }

  get rowPx() {
    return parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row-px"));
  }

  // Ask anew. Where `around` is in the list, the cursor goes there, else to none.
  async load(query, around = "") {
    const generation = ++this.generation;
    const params = new URLSearchParams(query);
    params.set("limit", PAGE);
    if (around) params.set("around", around);
    const found = await ask(`/api/tracks?${params}`);
    if (generation !== this.generation) return false; // a later question has been asked meanwhile
    this.query = query;
    this.pages = new Map([[0, found.tracks]]);
    this.total = found.total;
    this.cursor = found.position ?? -1;
    this.grid.setAttribute("aria-rowcount", this.total + 1);
    this.#stretch();
    if (this.cursor >= 0) this.show(this.cursor);
    else this.scroller.scrollTop = 0;
    this.draw();
    this.changed();
    return true;
  }

  #stretch() {
    this.spacer.style.height = `${Math.min(this.total * this.rowPx, TALLEST_PX)}px`;
  }

  async row(index) {
    if (index < 0 || index >= this.total) return null;
    const rows = await this.#page(Math.floor(index / PAGE));
    return rows[index % PAGE] ?? null;
  }

  known(index) {
    const rows = this.pages.get(Math.floor(index / PAGE));
    return Array.isArray(rows) ? rows[index % PAGE] : undefined;
  }

  #page(number) {
    const there = this.pages.get(number);
    if (there) return Promise.resolve(there);
    const { generation, query } = this;
    const params = new URLSearchParams(query);
    params.set("offset", number * PAGE);
    params.set("limit", PAGE);
    const coming = ask(`/api/tracks?${params}`).then(
      (found) => {
        if (generation === this.generation) {
          this.pages.set(number, found.tracks);
          this.draw();
        }
        return found.tracks;
      },
      (error) => {
        if (generation === this.generation) this.pages.delete(number);
        throw error;
      },
    );
    this.pages.set(number, coming);
    return coming;
  }

  // Rows are placed by the share that is scrolled, where the list is taller than a browser can scroll.
  #first() {
    const { scrollTop, clientHeight } = this.scroller;
    const real = this.total * this.rowPx - clientHeight;
    const most = this.spacer.offsetHeight - clientHeight;
    return { top: most > 0 && real > most ? (scrollTop / most) * real : scrollTop, shift: scrollTop };
  }

  draw() {
    const { rowPx } = this;
    const { top, shift } = this.#first();
    const from = Math.max(0, Math.floor(top / rowPx) - SPARE);
    const to = Math.min(this.total, Math.ceil((top + this.scroller.clientHeight) / rowPx) + SPARE);
    const drawn = [];
    for (let index = from; index < to; index++) {
      const row = this.known(index);
      if (row === undefined) this.#page(Math.floor(index / PAGE)).catch(() => {});
      const made = this.#rowElement(index, row);
      made.style.transform = `translateY(${index * rowPx - top + shift}px)`;
      drawn.push(made);
    }
    this.spacer.replaceChildren(...drawn);
    const chosen = this.cursor >= from && this.cursor < to;
    if (chosen) this.grid.setAttribute("aria-activedescendant", `row-${this.cursor}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  #rowElement(index, row) {
    const attributes = {
      role: "row",
      id: `row-${index}`,
      class: "row",
      "data-index": index,
      "aria-rowindex": index + 2,
      "aria-selected": String(Boolean(row) && this.selected.has(row.track_id)),
      "aria-current": index === this.cursor ? "true" : null,
    };
    if (!row) return element("div", attributes, element("span", { role: "gridcell", class: "waiting" }, "…"));
    const cell = (name, ...content) => element("span", { role: "gridcell", class: name, title: name === "genre" ? null : content[0] }, ...content);
    const sure = element("i");
    sure.style.width = `${100 * (row.confidence ?? 0)}%`;
    const mark = element("input", { type: "checkbox", tabindex: -1, "aria-label": `Select ${row.title}` });
    mark.checked = this.selected.has(row.track_id);
    const made = element(
      "div",
      attributes,
      element("span", { role: "gridcell", class: "mark" }, mark),
      cell("title", row.title || row.track_id),
      cell("artist", row.artist),
      cell("album", row.album),
      cell("genre", dot(row.genre), row.genre || "–", row.corrected ? element("b", { title: "corrected or confirmed" }, " ✓") : null),
      element("span", { role: "gridcell", class: "sure", title: `the model is ${percent(row.confidence)} sure` }, sure, percent(row.confidence)),
      cell("file", row.file_genre),
      cell("length", clock(row.duration_s)),
    );
    if (row.differs && !row.corrected) made.classList.add("differs");
    if (row.none_of_these) made.classList.add("none");
    return made;
  }

  show(index) {
    const { rowPx, scroller } = this;
    const { top } = this.#first();
    if (index * rowPx >= top && (index + 1) * rowPx <= top + scroller.clientHeight) return;
    const real = this.total * rowPx - scroller.clientHeight;
    const most = this.spacer.offsetHeight - scroller.clientHeight;
    const wanted = Math.max(0, Math.min(real, index * rowPx - scroller.clientHeight / 3));
    scroller.scrollTop = real > most && real > 0 ? (wanted / real) * most : wanted;
  }

  async go(index, options) {
    const row = await this.row(index);
    if (!row) return null;
    this.cursor = index;
    this.show(index);
    this.draw();
    this.choose(row, options);
    return row;
  }

  toggle(row) {
    if (this.selected.has(row.track_id)) this.selected.delete(row.track_id);
    else this.selected.set(row.track_id, row);
    this.draw();
    this.changed();
  }

  async #clicked(event) {
    const made = event.target.closest(".row");
    if (!made) return;
    const index = Number(made.dataset.index);
    const row = this.known(index);
    if (!row) return;
    this.grid.focus({ preventScroll: true }); // rows are drawn anew, and must not take the focus along
    if (event.shiftKey && this.cursor >= 0) {
      const [from, to] = [Math.min(index, this.cursor), Math.max(index, this.cursor)];
      for (let at = from; at <= Math.min(to, from + 2000); at++) {
        const one = await this.row(at);
        if (one) this.selected.set(one.track_id, one);
      }
      this.draw();
      this.changed();
    } else if (event.target.closest(".mark") || event.ctrlKey || event.metaKey) this.toggle(row);
    else await this.go(index, { play: true });
  }
}
