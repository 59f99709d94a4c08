"use strict";
/* A choice shows one of its panels, in each place of the page by itself. */
for (const choice of document.querySelectorAll(".choice")) {
  const select = choice.querySelector(":scope > label > select");
  const panels = choice.querySelectorAll(":scope > .panel");
  const show = () => panels.forEach((panel, number) => {
    panel.hidden = number !== select.selectedIndex;
  });
  select.addEventListener("change", show);
  show();
}

/* How strongly the heat covers the slides. */
for (const slider of document.querySelectorAll(".heats input[type=range]")) {
  const heats = slider.closest(".heats");
  slider.addEventListener("input", () => heats.style.setProperty("--heat", slider.value));
}
