// Light, dark, or as the system says; remembered by the browser where it allows.

const KEY = "roborefer.theme";
const THEMES = ["system", "light", "dark"];

export function followTheme(button) {
  let theme = "system";
  try {
    theme = localStorage.getItem(KEY) ?? theme;
  } catch {
    // Not remembered in private windows.
  }
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    show();
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Fine for this visit.
    }
  });
  show();
}
