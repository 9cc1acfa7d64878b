"""The look of every page, and the one small script that sorts tables."""

# What is wider than the screen scrolls within itself, with a shade at the edge behind which it goes on: a cover that
# scrolls with the content hides the shade where it ends.
STYLE = """
:root { color-scheme: light dark; --paper: #fcfcfa; --ink: #1d1f21; --soft: #60656b; --rule: #d9d8d2; --tint: #f2f1ec;
  --shade: rgb(0 0 0 / .28); --accent: #0060a0; --hit: #00734f; --miss: #b04a00; --wanted: #6b5b00; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181a; --ink: #e4e4e0; --soft: #a0a5aa; --rule: #3a3d40;
  --tint: #202326; --shade: rgb(255 255 255 / .3); --accent: #7cc0f0; --hit: #3fc79a; --miss: #f09050;
  --wanted: #e0c860; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1, h2 { font-family: "Iowan Old Style", Charter, "Palatino Linotype", Georgia, "Liberation Serif", serif;
  line-height: 1.2; text-wrap: balance; }
h1 { font-size: 2rem; font-weight: 600; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; font-weight: 600; margin: 0 0 .9rem; }
h3 { font-size: 1rem; margin: 0 0 .6rem; font-weight: 500; }
h3.part { font-weight: 650; margin-top: 1.4rem; }
p { margin: 0 0 .8rem; max-width: 44rem; }
.lead { color: var(--soft); margin-bottom: 0; overflow-wrap: anywhere; max-width: none; }
.lead span { display: inline-block; max-width: 100%; }
section { margin-top: 2.2rem; padding-top: 1.6rem; border-top: 1px solid var(--rule); }
a { color: var(--accent); }
ul { max-width: 44rem; padding-left: 1.2rem; margin: 0 0 .8rem; overflow-wrap: anywhere; }
.table, .wide picture { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) 0 0 / .9rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) 100% 0 / .9rem 100% no-repeat scroll; }
.table { margin: 0 0 1rem; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink);
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; font-size: .9rem; max-width: 44rem; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
thead th.number { white-space: normal; min-width: 5.5rem; }
th, td { padding: .34rem .9rem .34rem 0; text-align: left; vertical-align: top; }
th:not(:first-child), td { padding-left: .9rem; }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; }
td.strong { font-weight: 650; }
td.muted, th.muted { color: var(--soft); }
.words table { font-size: .92rem; border-collapse: separate; border-spacing: 0; }
.words th, .words td { padding-right: .5rem; }
.words th:not(:first-child), .words td { padding-left: .5rem; }
.words td:not(.number) { min-width: 6.5rem; }
.words tbody th { white-space: nowrap; }
.words th:first-child { position: sticky; left: 0; background: var(--paper); }
.facts td { overflow-wrap: anywhere; }
.facts tbody th { white-space: nowrap; color: var(--soft); }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th button::after { content: "\\00a0\\2195"; color: var(--soft); font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\00a0\\2191"; color: var(--ink); }
th[aria-sort=descending] button::after { content: "\\00a0\\2193"; color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.6rem;
  margin-bottom: 1.4rem; }
figure { margin: 0; min-width: 0; }
.charts img { width: 100%; height: auto; display: block; }
.charts .wide { grid-column: 1 / -1; }
.charts figure > figcaption { font-size: .85rem; color: var(--soft); margin-top: .3rem; }
.query { margin: 0 0 1.5rem; break-inside: avoid; }
.query h4 { font-size: .9rem; font-weight: 500; margin: .7rem 0 .35rem; }
.asked { margin: 0; }
.query q { font-style: italic; overflow-wrap: anywhere; }
.verdict { white-space: nowrap; font-size: .85rem; font-weight: 650; padding: .08rem .5rem; border-radius: 1rem;
  border: 1.5px solid; margin-left: .35rem; }
.verdict.hit { color: var(--hit); } .verdict.miss { color: var(--miss); border-style: dashed; }
.found { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .6rem; }
.item { font-size: .8rem; line-height: 1.3; }
.item img, .item .text { display: block; width: 100%; aspect-ratio: 4 / 3; border-radius: 3px; background: var(--tint);
  border: 1px solid var(--rule); }
.item img { object-fit: contain; }
.item img.crisp { image-rendering: pixelated; }
.item .text { padding: .45rem; aspect-ratio: auto; height: 6.4rem; overflow-wrap: anywhere; }
.item .text span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 5; overflow: hidden; }
.item figcaption { margin-top: .2rem; color: var(--soft); }
.item .id { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.item.hit img, .item.hit .text { border: 4px solid var(--hit); }
.item.hit .text, .item.wanted .text { padding: calc(.45rem - 2px); }
.item.hit b { color: var(--hit); }
.item.miss b { font-weight: 400; color: var(--miss); }
.item.wanted img, .item.wanted .text { border: 3px dashed var(--wanted); }
.item.wanted b { color: var(--wanted); }
@media (max-width: 40rem) {
  main { padding: 1.4rem 1rem 3rem; }
  h1 { font-size: 1.4rem; }
  .found { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  th, td { padding-right: .55rem; }
  th:not(:first-child), td { padding-left: .55rem; }
  .words tbody th { white-space: normal; overflow-wrap: break-word; }
  caption { max-width: calc(100vw - 2rem); }
  .words table { font-size: .9rem; }
  .words th:first-child { max-width: 8rem; }
  thead th.number { min-width: 0; }
  .words thead th.number { min-width: 6.5rem; }
  .table > table { font-size: .9rem; }
  .charts .wide picture { display: block; }
  .charts .wide img { min-width: 40rem; }
  .facts tbody th { white-space: normal; overflow-wrap: break-word; max-width: 14rem; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --tint: #f4f4f4; --accent: #000; --hit: #00593d;
    --miss: #8a3a00; --wanted: #554800; }
  main { max-width: none; padding: 0; }
  .table, .wide picture { overflow: visible; background: none; }
  .words th:first-child { position: static; }
  .charts { grid-template-columns: 1fr 1fr; gap: 1rem; }
  .table { font-size: .8rem; }
  thead th.number { min-width: 0; }
  .words td:not(.number) { min-width: 0; }
  th button::after { content: ""; }
  h2, h3, caption, thead { break-after: avoid; } .words { break-inside: avoid; }
  figure, tr { break-inside: avoid; }
  .screen { display: none; }
}
"""

# Titles become buttons only where the script runs; without it the table is a table.
SCRIPT = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  var titles = table.tHead.rows[0].cells, body = table.tBodies[0];
  Array.from(titles).forEach(function (title, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = title.textContent;
    title.textContent = "";
    title.appendChild(button);
    button.addEventListener("click", function () {
      var up = title.getAttribute("aria-sort") !== "ascending";
      Array.from(titles).forEach(function (other) { other.removeAttribute("aria-sort"); });
      title.setAttribute("aria-sort", up ? "ascending" : "descending");
      var key = function (row) {
        var cell = row.cells[column], value = cell.dataset.value;
        return title.classList.contains("number") ? (value === undefined ? NaN : Number(value)) : cell.textContent;
      };
      Array.from(body.rows).sort(function (first, second) {
        var x = key(first), y = key(second);
        if (typeof x === "string") { return (up ? 1 : -1) * x.localeCompare(y, undefined, {numeric: true}); }
        if (isNaN(x) || isNaN(y)) { return isNaN(x) - isNaN(y); }
        return up ? x - y : y - x;
      }).forEach(function (row) { body.appendChild(row); });
    });
  });
});
"""
