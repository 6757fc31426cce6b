// Runs before the page is painted, so that a chosen theme never flashes.
const CHOICES = ["light", "dark"];

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // storage is forbidden: follow the system
  }
}

const choice = stored();
if (CHOICES.includes(choice)) document.documentElement.dataset.theme = choice;
