// Learning: begin, wait, and show the page anew.
import { ask, attempt } from "./common.js";

const $ = (id) => document.getElementById(id);
const DOING = { learning: "Learning; this takes some seconds …", retagging: "Giving tracks their words …" };

async function follow(wasBusy) {
  const state = await attempt(() => ask("/api/learn"));
  if (!state) return;
  $("learn").disabled = Boolean(state.doing);
  if ($("retag")) $("retag").disabled = Boolean(state.doing);
  $("doing").textContent = state.doing ? DOING[state.doing] : state.message;
  if (state.doing) setTimeout(() => follow(true), 300);
  else if (wasBusy) location.reload();
}

const begin = async (path) => (await attempt(() => ask(path, { method: "POST" }))) && follow(true);
$("learn").addEventListener("click", () => begin("/api/learn"));
$("retag")?.addEventListener("click", () => begin(`/api/learn/retag${location.search}`));
follow(false);
