/**
 * The mapping, shown and editable: each of the avatar's targets, what moves it, how strongly, and how far it is
 * moved at this moment.
 *
 * Driven targets come first, then those that nothing drives with the reason; the channels that move nothing on
 * this avatar are listed below. Rows are made when the list is opened, because an avatar may have hundreds.
 */

import { REGIONS } from '../avatar/channels.js';
import { regionOfSignal, SIGNALS } from '../avatar/signals.js';
import { element, say } from '../panel.js';

const NOTHING = '';
const REGION_WORDS = { mouth: 'Mouth and jaw', eyes: 'Eyes', brows: 'Brows', cheeks: 'Cheeks and nose' };

export class AvatarPanel {
  /**
   * @param {import('./wardrobe.js').Wardrobe} wardrobe
   * @param {{onChoose: () => void, onTakeOff: () => void}} options
   */
  constructor(wardrobe, { onChoose, onTakeOff }) {
    this.wardrobe = wardrobe;
    /** @type {{index: number, row: HTMLElement, meter: HTMLElement}[]} */
    this.rows = [];
    element('avatar-choose').addEventListener('click', onChoose);
    element('avatar-off').addEventListener('click', onTakeOff);
    element('mapping').addEventListener('toggle', () => this.#list());
    element('mapping-reset').addEventListener('click', () => {
      wardrobe.avatar?.resetLinks();
      this.#keep();
      this.show();
    });
    element('overrides').addEventListener('change', () => {
      if (wardrobe.avatar) wardrobe.avatar.keepsOverrides = element('overrides').checked;
    });
  }

  /** The avatar has changed, or its mapping. */
  show() {
    const { worn, avatar } = this.wardrobe;
    say(element('avatar-name'), worn ? worn.name : 'The face that comes with the server');
    element('avatar-off').hidden = worn === null;
    const notes = (worn?.notes ?? []).map((note) => {
      const item = document.createElement('li');
      item.textContent = note;
      return item;
    });
    element('avatar-notes').replaceChildren(...notes);
    element('overrides-choice').hidden = (avatar?.vrm?.overriding.length ?? 0) === 0;
    element('overrides').checked = avatar?.keepsOverrides ?? false;
    element('mapping').hidden = avatar === null;
    this.#count();
    this.#list();
  }

  /** Ten times a second while it is to be seen: how far each target is moved, and what holds the mouth. */
  showWeights() {
    const { avatar } = this.wardrobe;
    if (!avatar || !element('section-avatar').open || !element('panel').open) return;
    const { stilledBy } = avatar;
    element('avatar-stilled').hidden = stilledBy === null;
    if (stilledBy) say(element('avatar-stilled'), `“${stilledBy}” holds the mouth still at this moment.`);
    if (!element('mapping').open) return;
    const { weights } = avatar.retarget;
    for (const { index, meter } of this.rows) meter.style.transform = `scaleX(${weights[index].toFixed(3)})`;
  }

  #count() {
    const { avatar } = this.wardrobe;
    if (!avatar) return;
    const { driven, idle, unheard } = avatar.retarget;
    say(element('mapping-count'), `${driven.length} driven, ${idle.length} not`);
    const [title, list] = element('unheard').children;
    element('unheard').hidden = unheard.length === 0;
    say(title, `${unheard.length} channels move nothing here`);
    say(list, inPairs(unheard).join(', '));
  }

  #list() {
    const { avatar } = this.wardrobe;
    const list = element('mapping-rows');
    this.rows = [];
    if (!avatar || !element('mapping').open) {
      list.replaceChildren();
      return;
    }
    const { links } = avatar.retarget;
    const order = links.map((_, i) => i);
    const isDriven = (/** @type {number} */ i) => links[i].source !== null;
    const sorted = [...order.filter(isDriven), ...order.filter((i) => !isDriven(i))];
    list.replaceChildren(...sorted.map((index) => this.#row(avatar, index)));
  }

  /** @param {import('../avatar/avatar.js').Avatar} avatar @param {number} index */
  #row(avatar, index) {
    const { target, kind } = avatar.retarget.links[index];
    const row = document.createElement('div');
    row.className = 'mapping-row';
    row.setAttribute('role', 'group');
    row.setAttribute('aria-label', target);
    const name = document.createElement('span');
    name.className = 'target';
    name.textContent = target;
    name.title = `${target} (${kind})`;
    const meter = document.createElement('i');
    meter.className = 'meter';
    const source = chooser();
    source.setAttribute('aria-label', `What moves ${target}`);
    const gain = document.createElement('input');
    Object.assign(gain, { type: 'range', min: '0', max: '2', step: '0.05' });
    gain.setAttribute('aria-label', `How strongly ${target} is moved`);
    const value = document.createElement('output');
    const reason = document.createElement('small');
    const write = () => {
      const link = avatar.retarget.links[index];
      source.value = link.source ?? NOTHING;
      gain.value = String(link.gain);
      gain.hidden = value.hidden = link.source === null;
      value.textContent = `× ${link.gain.toFixed(2)}`;
      reason.hidden = link.source !== null || !link.reason;
      reason.textContent = link.reason;
      row.classList.toggle('idle', link.source === null);
    };
    const change = () => {
      avatar.link(index, source.value === NOTHING ? null : source.value, Number(gain.value));
      write();
      this.#count();
      this.#keep();
    };
    source.addEventListener('change', change);
    gain.addEventListener('input', change);
    write();
    row.append(meter, name, source, gain, value, reason);
    this.rows.push({ index, row, meter });
    return row;
  }

  #keep() {
    const { avatar } = this.wardrobe;
    if (avatar) this.wardrobe.keep(avatar);
  }
}

/** @type {HTMLSelectElement | null} */
let pattern = null;

/** A select of every signal, by region; made once and copied. @returns {HTMLSelectElement} */
function chooser() {
  if (!pattern) {
    pattern = document.createElement('select');
    pattern.append(new Option('nothing', NOTHING));
    for (const region of REGIONS) {
      const group = document.createElement('optgroup');
      group.label = REGION_WORDS[region];
      const own = SIGNALS.filter((signal) => regionOfSignal(signal) === region && signal !== 'viseme_sil');
      group.append(...own.map((signal) => new Option(signal, signal)));
      pattern.append(group);
    }
  }
  return /** @type {HTMLSelectElement} */ (pattern.cloneNode(true));
}

/** Two sides as one word: `browDown L R`. @param {string[]} channels */
function inPairs(channels) {
  return channels.flatMap((name) => {
    const stem = name.replace(/(Left|Right)$/, '');
    const isPair = stem !== name && channels.includes(`${stem}Left`) && channels.includes(`${stem}Right`);
    if (!isPair) return [name];
    return name.endsWith('Left') ? [`${stem} L R`] : [];
  });
}
