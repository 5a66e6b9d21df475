/** A failure on this side of the wire, in words for the user. */
export class PageError extends Error {
  /** @param {string} message what is wrong @param {string} hint what to do about it */
  constructor(message, hint) {
    super(message);
    this.name = 'PageError';
    this.hint = hint;
  }
}
