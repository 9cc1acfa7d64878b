// Column titles become buttons that sort the table. Without scripts the table stays a table.
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
