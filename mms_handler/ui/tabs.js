// Lists of tabs, as WAI-ARIA describes them: arrow keys, Home and End move between tabs.

const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

// Makes a list of tabs work; `changed` is called with the id of the tab that is chosen.
export class Tabs {
  constructor(list, changed = () => {}) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.changed = changed;
    this.tabs.forEach((tab) => tab.addEventListener("click", () => this.choose(tab.id)));
    list.addEventListener("keydown", (event) => this.move(event));
    this.choose(this.tabs[0].id);
  }

  get shown() {
    return this.tabs.filter((tab) => !tab.hidden);
  }

  choose(id) {
    this.chosen = id;
    for (const tab of this.tabs) {
      const selected = tab.id === id;
      tab.setAttribute("aria-selected", selected);
      tab.tabIndex = selected ? 0 : -1;
      panelOf(tab).hidden = !selected;
    }
    this.changed(id);
  }

  // Shows only these tabs; the first of them if the chosen one is gone.
  offer(ids) {
    this.tabs.forEach((tab) => (tab.hidden = !ids.includes(tab.id)));
    if (!ids.includes(this.chosen)) this.choose(ids[0]);
  }

  move(event) {
    const shown = this.shown;
    const at = shown.findIndex((tab) => tab.id === this.chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const tab = shown[(to + shown.length) % shown.length];
    this.choose(tab.id);
    tab.focus();
  }
}
