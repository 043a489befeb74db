// Ctrl+Enter draws, wherever the cursor is; light and dark are remembered.
window.lorastyle = {
  shade() {
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("lorastyle-shade", dark ? "dark" : "light");
  },
  // What stands in the fields, for this tab alone. Fields tell of themselves before what was kept is read.
  keep(values) { if (this.read) sessionStorage.setItem("lorastyle-draw", JSON.stringify(values)); },
  kept() { this.read = true; return sessionStorage.getItem("lorastyle-draw") ?? ""; },
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const go = document.querySelector("#go");
  if (!go || go.disabled || go.offsetParent === null) return;
  event.preventDefault();
  event.stopPropagation();
  // A number is told when its field is left, which must come before the click.
  const active = document.activeElement;
  active?.blur?.();
  setTimeout(() => { go.click(); active?.focus?.(); }, 50);
}, true);
// A gallery takes the cursor whenever pictures come, in the middle of a word: give it back to where it was.
let handled = 0, byTab = false;
for (const what of ["pointerdown", "keydown"])
  document.addEventListener(what, (event) => {
    if (event.target.closest?.("#gallery")) handled = Date.now();
    if (event.key !== "Tab") return;
    byTab = true;  // the cursor moves before anything else is done; what moves it later is no key
    setTimeout(() => { byTab = false; }, 0);
  }, true);
document.addEventListener("focusin", (event) => {
  const before = event.relatedTarget, gallery = event.target.closest?.("#gallery");
  if (!gallery || byTab || Date.now() - handled < 500 || gallery.contains(before)) return;
  if (before) before.focus({ preventScroll: true });
  else event.target.blur();
}, true);
document.addEventListener("DOMContentLoaded", () => {
  const kept = localStorage.getItem("lorastyle-shade");
  if (kept) new MutationObserver((_, watcher) => {
    document.body.classList.toggle("dark", kept === "dark");
    if (document.querySelector("#go")) watcher.disconnect();
  }).observe(document.body, { childList: true, subtree: true });
});
