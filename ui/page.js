// Ctrl+Enter draws, wherever the cursor is; light and dark are remembered.
window.lorastyle = {
  shade() {
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("lorastyle-shade", dark ? "dark" : "light");
  },
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
document.addEventListener("DOMContentLoaded", () => {
  const kept = localStorage.getItem("lorastyle-shade");
  if (kept) new MutationObserver((_, watcher) => {
    document.body.classList.toggle("dark", kept === "dark");
    if (document.querySelector("#go")) watcher.disconnect();
  }).observe(document.body, { childList: true, subtree: true });
});
