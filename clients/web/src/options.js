/**
 * What the page's address says.
 *
 * ?watch=NAME      show a stream that somebody else speaks on, for example `microphone`
 * ?stream=NAME     speak under this name, so that others can watch it
 * ?server=ws://…   another server than the one that the page came from
 * ?kind=vertices   begin in vertices mode
 * ?lookahead=MS    ask for this much lookahead
 * ?quality=full    shadows and every pixel even without a graphics card; `low` does without them on any machine
 * ?avatar=NAME     wear avatars/NAME of the folder that the server was started in, or any address on this server
 * ?sound           with ?watch: play the speaker's sound, where the browser lets it begin by itself
 * ?transparent     no backdrop, and controls only while hovered: for broadcasting software
 * #token=…         the server's token; after the #, so that it never leaves the browser in an address
 */

/**
 * @typedef {object} Options
 * @property {string | null} watch
 * @property {string | null} stream
 * @property {'coefficients' | 'vertices'} kind
 * @property {number | undefined} lookaheadMs
 * @property {string | null} quality
 * @property {boolean} transparent
 * @property {string | undefined} token
 * @property {string | null} avatar an address
 * @property {boolean} sound
 * @property {URL} server under which its streams are
 */

/**
 * @param {string} href the page's own address
 * @returns {Options}
 */
export function readOptions(href) {
  const page = new URL(href);
  const query = page.searchParams;
  const lookahead = Number.parseFloat(query.get('lookahead') ?? '');
  const isSet = (/** @type {string} */ name) => query.has(name) && query.get(name) !== '0';
  const avatar = query.get('avatar') || null;
  return {
    watch: query.get('watch') || null,
    stream: query.get('stream') || null,
    kind: query.get('kind') === 'vertices' ? 'vertices' : 'coefficients',
    lookaheadMs: Number.isFinite(lookahead) ? lookahead : undefined,
    quality: query.get('quality'),
    avatar: avatar && (avatar.includes('/') ? avatar : `avatars/${avatar}`),
    sound: isSet('sound'),
    transparent: isSet('transparent'),
    token: new URLSearchParams(page.hash.slice(1)).get('token') ?? undefined,
    server: new URL(query.get('server') || '.', page),
  };
}
