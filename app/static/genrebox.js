// A field with proposals. It saves on Enter or a click on a proposal, and on nothing else; Escape clears it.
import { dot, element, plain } from "./common.js";

const MOST = 8;

export class GenreBox {
  constructor(input, proposals, { words, save }) {
    Object.assign(this, { input, proposals, words, save, at: -1 });
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-controls", proposals.id);
    input.setAttribute("aria-autocomplete", "list");
    proposals.setAttribute("role", "listbox");
    input.addEventListener("input", () => this.#propose());
    input.addEventListener("blur", () => (proposals.hidden = true)); // and what was typed stays, unsaved
    input.addEventListener("focus", () => input.value && this.#propose());
    input.addEventListener("keydown", (event) => this.#key(event));
    proposals.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    proposals.addEventListener("click", (event) => {
      const chosen = event.target.closest("li");
      if (chosen) this.#take(chosen.dataset.word);
    });
    this.close();
  }

  close() {
    this.proposals.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.at = -1;
  }

  clear() {
    this.input.value = "";
    this.close();
  }

  #propose() {
    const typed = plain(this.input.value.split(";").at(-1).trim());
    const words = typed ? this.words() : [];
    const begins = words.filter((word) => plain(word).startsWith(typed));
    const within = words.filter((word) => !plain(word).startsWith(typed) && plain(word).includes(typed));
    const found = [...begins, ...within].slice(0, MOST);
    this.proposals.replaceChildren(
      ...found.map((word, i) => element("li", { role: "option", id: `${this.proposals.id}-${i}`, "data-word": word, "aria-selected": "false" }, dot(word), word)),
    );
    this.at = -1;
    this.proposals.hidden = !found.length;
    this.input.setAttribute("aria-expanded", String(found.length > 0));
  }

  #move(by) {
    const all = [...this.proposals.children];
    if (!all.length) return;
    this.at = (this.at + by + all.length) % all.length;
    all.forEach((one, i) => one.setAttribute("aria-selected", String(i === this.at)));
    this.input.setAttribute("aria-activedescendant", all[this.at].id);
  }

  #take(word) {
    const before = this.input.value.split(";").slice(0, -1).map((one) => one.trim()).filter(Boolean);
    const said = [...before, word.trim()].filter(Boolean).join("; ");
    if (!said) return;
    this.clear();
    this.save(said);
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      this.#move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#take(this.at >= 0 ? this.proposals.children[this.at].dataset.word : this.input.value.split(";").at(-1));
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      if (this.input.value) this.clear();
      else this.input.blur();
    }
  }
}
