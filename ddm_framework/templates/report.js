"use strict";
// Shows the queries that are searched for, in cards and in tables; without scripts the page shows them all.
(() => {
  const items = [...document.querySelectorAll("[data-alarm]")];
  if (items.length < 6) return;
  const box = document.getElementById("search");
  const text = document.getElementById("search-text"), group = document.getElementById("search-group");
  const alarms = document.getElementById("search-alarms"), count = document.getElementById("search-count");
  const rows = items.filter((item) => item.matches("tr"));
  const counted = rows.length ? rows : items;  // a query may have a card besides its row
  const words = new Map();
  const wordsOf = (item) => {
    if (!words.has(item)) {
      const named = item.matches("tr") ? [...item.cells] : [item.querySelector("h3")];
      words.set(item, named.map((each) => each.textContent).join(" ").replace(/\s+/g, " ").toLowerCase());
    }
    return words.get(item);
  };
  const found = new Set(items.map((item) => item.dataset.group).filter(Boolean));
  for (const name of [...found].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) group.add(new Option(name, name));
  group.hidden = found.size < 2;
  alarms.parentElement.hidden = !items.some((item) => item.dataset.alarm === "1");
  const search = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
    for (const item of items) {
      item.hidden = (alarms.checked && item.dataset.alarm !== "1") || (group.value && item.dataset.group !== group.value)
        || !wordsOf(item).includes(wanted);
    }
    const searched = wanted || group.value || alarms.checked;
    if (searched) for (const each of document.querySelectorAll("details.long")) if (each.querySelector("[data-alarm]")) each.open = true;
    count.textContent = searched ? `${counted.filter((item) => !item.hidden).length} of ${counted.length}` : "";
  };
  box.hidden = false;
  let typing;
  text.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, 120); });
  for (const each of [group, alarms]) each.addEventListener("change", search);
})();
