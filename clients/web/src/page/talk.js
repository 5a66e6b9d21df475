/**
 * Talking into the page: one take at a time, from a press of a button until the face has come to rest.
 *
 * A take (microphone or sample) runs over the page's connection and ends it; the next connection follows by
 * itself. Pressing another button, or the same one while its tail is being shown, begins a new take at once.
 */

import { PageError } from '../page-error.js';
import { Take } from '../take.js';

const LONGEST_END_S = 3;

/** @typedef {'microphone' | 'sample'} Kind */

export class Talk {
  /**
   * @param {import('../connection.js').Connection} connection
   * @param {object} options
   * @param {string} options.sampleUrl
   * @param {(take: Take | null) => void} options.onTake when another take begins, or none is left
   * @param {() => void} options.onChange when what should be shown has changed
   * @param {(error: PageError) => void} options.onFault
   */
  constructor(connection, { sampleUrl, onTake, onChange, onFault }) {
    this.connection = connection;
    this.sampleUrl = sampleUrl;
    this.onTake = onTake;
    this.onChange = onChange;
    this.onFault = onFault;
    /** Whether a microphone is heard, too. */
    this.hearsMicrophone = false;
    /** @type {Take | null} */
    this.take = null;
    this.starting = false;
    /** @type {AudioContext | null} */
    this.context = null;
    connection.addEventListener('ended', () => {
      if (this.take?.stopping) this.drop(this.take);
    });
    connection.addEventListener('state', () => {
      if (connection.state === 'failed' && this.take) this.drop(this.take);
    });
  }

  /** What is being sent, null for nothing. @returns {Kind | null} */
  get kind() {
    return this.take && !this.take.stopping ? this.take.kind : null;
  }

  /** @param {Kind} kind */
  async press(kind) {
    const { take } = this;
    if (take && this.kind === kind) this.finish(take, kind === 'sample');
    else await this.#begin(kind);
  }

  /** @param {boolean} hears a microphone too; with headphones */
  hear(hears) {
    this.hearsMicrophone = hears;
    if (this.take?.kind === 'microphone') this.take.hear(hears);
  }

  /** @param {Kind} kind */
  async #begin(kind) {
    const { connection } = this;
    this.context ??= new AudioContext({ latencyHint: 'interactive' });
    const { context } = this;
    const hadTake = this.take !== null;
    if (this.take) this.drop(this.take); // what is left of it gives way
    const isOther = context.sampleRate !== connection.audioRateHz;
    connection.audioRateHz = context.sampleRate;
    if (hadTake || connection.state !== 'open' || isOther) connection.restart();
    const take = new Take(context, connection, kind);
    if (kind === 'microphone') take.hears = this.hearsMicrophone;
    take.onEnd = () => this.finish(take, false);
    this.take = take;
    this.starting = true;
    this.onTake(take);
    this.onChange();
    try {
      await Promise.all([take.open(this.sampleUrl), connection.settled()]);
      take.start();
    } catch (error) {
      this.drop(take);
      const words = error instanceof Error ? error.message : String(error);
      const hint = 'Reload the page, or try another browser.';
      this.onFault(error instanceof PageError ? error : new PageError(words, hint));
    } finally {
      this.starting = false;
      this.onChange();
    }
  }

  /**
   * Lets a take come to its end; it is dropped when the server has said `ended`.
   * @param {Take} take
   * @param {boolean} abrupt whether it should fall silent at once
   */
  finish(take, abrupt) {
    take.stop({ abrupt });
    setTimeout(() => {
      if (this.take !== take) return;
      this.drop(take); // the server never answered
      this.connection.restart();
    }, 1000 * LONGEST_END_S);
    this.onChange();
  }

  /** @param {Take} take */
  drop(take) {
    take.close();
    if (this.take === take) {
      this.take = null;
      this.onTake(null);
    }
    this.onChange();
  }
}
