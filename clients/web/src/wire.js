/**
 * Protocol v1's codec for a client: values out, values in; nothing here knows of sockets or time.
 *
 * PROTOCOL.md is the specification in words and tests/vectors/wire its examples. Decoding throws WireError
 * with one of the protocol's own error codes, and never anything else.
 */

export * from './wire-media.js';
export * from './wire-messages.js';
export { SUBPROTOCOL, VERSION, WireError } from './wire-types.js';
