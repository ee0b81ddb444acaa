"""Serious faults of accessibility on a page, found by a script in the browser.

axe-core is not among the packages of this project. This looks for what it calls serious and critical, as far as it can
be seen without a list of rules: names of controls, texts for images, language, title, headings, ids, focus, contrast.
"""

from typing import Any

_SCRIPT = r"""
() => {
  const faults = [];
  const told = element => element.outerHTML.replace(/\s+/g, ' ').slice(0, 160);
  const shown = element => {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    return box.width > 1 && box.height > 1 && style.visibility === 'visible' && style.display !== 'none';
  };
  const all = selector => [...document.querySelectorAll(selector)];
  const text = element => (element ? element.textContent : '').trim();
  const named = element => {
    if ((element.getAttribute('aria-label') || element.title || '').trim()) return true;
    const by = element.getAttribute('aria-labelledby');
    if (by && by.split(/\s+/).some(id => text(document.getElementById(id)))) return true;
    if (element.id && text(document.querySelector(`label[for="${CSS.escape(element.id)}"]`))) return true;
    const around = element.closest('label');
    return Boolean(around && text(around));
  };

  if (!document.documentElement.lang) faults.push('the page has no language');
  if (!document.title.trim()) faults.push('the page has no title');

  for (const image of all('img')) if (!image.hasAttribute('alt')) faults.push('no alt: ' + told(image));
  for (const part of all('video, audio, iframe, progress, meter'))
    if (shown(part) && !named(part)) faults.push('no name: ' + told(part));
  for (const control of all('input:not([type=hidden]), select, textarea'))
    if (shown(control) && !named(control)) faults.push('no label: ' + told(control));
  for (const control of all('button, a[href], [role=button], summary')) {
    const parts = [...control.querySelectorAll('img[alt], svg[aria-label], title')];
    const inside = parts.some(one => one.alt || text(one) || one.getAttribute('aria-label'));
    if (shown(control) && !text(control) && !named(control) && !inside) faults.push('no name: ' + told(control));
  }

  const ids = all('[id]').map(element => element.id).filter(Boolean);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index))) faults.push('twice: id ' + id);
  for (const attribute of ['aria-labelledby', 'aria-describedby', 'aria-owns'])
    for (const element of all(`[${attribute}]`))
      for (const id of element.getAttribute(attribute).split(/\s+/))
        if (id && !document.getElementById(id)) faults.push(`${attribute} of nothing: ` + told(element));

  const titles = all('h1, h2, h3, h4, h5, h6').filter(shown);
  const headings = titles.map(heading => [Number(heading.tagName[1]), text(heading)]);
  if (headings.filter(([level]) => level === 1).length !== 1) faults.push('not one h1');
  headings.forEach(([level, words], index) => {
    if (!words) faults.push('an empty heading');
    if (index && level > headings[index - 1][0] + 1) faults.push('a heading level is left out before: ' + words);
  });

  for (const element of all('[tabindex]'))
    if (element.tabIndex > 0) faults.push('a tab order of its own: ' + told(element));
  for (const element of all('[role=button], [role=slider], [role=checkbox], [role=tab], [role=combobox], [onclick]'))
    if (shown(element) && element.tabIndex < 0 && !element.disabled) faults.push('not by keys: ' + told(element));
  for (const hidden of all('[aria-hidden=true]'))
    if (hidden.querySelector('a[href], button:not([tabindex="-1"]), input:not([tabindex="-1"])'))
      faults.push('hidden, but reached by keys: ' + told(hidden));

  const parsed = colour => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const over = (top, under) => [0, 1, 2].map(k => top[k] * top[3] + under[k] * (1 - top[3])).concat(1);
  const luminance = colour => {
    const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.slice(0, 3).map(value => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const judged = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || judged.has(element) || !shown(element)) continue;
    if (element.closest('script, style, noscript, button:disabled, [aria-disabled=true], svg')) continue;
    judged.add(element);
    const layers = [];
    let known = true, opacity = 1;
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      opacity *= Number(style.opacity);
      if (style.backgroundImage !== 'none') { known = false; break; }
      layers.push(parsed(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    if (!known || opacity === 0) continue;
    let under = [255, 255, 255, 1];
    for (const layer of layers.reverse()) under = over(layer, under);
    const style = getComputedStyle(element), ink = parsed(style.color);
    const colour = over([...ink.slice(0, 3), ink[3] * opacity], under);
    const [light, dark] = [luminance(colour), luminance(under)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ` + told(element));
  }
  return faults;
}
"""


def serious_faults(page: Any) -> list[str]:
    """What is wrong with a page of playwright, a line each; nothing where nothing is found."""
    found: list[str] = page.evaluate(_SCRIPT)
    return found
