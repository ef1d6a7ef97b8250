/**
 * The bounds of the program, in one place. What happens at each bound is said beside it.
 * Bounds that one protocol module alone uses stand at the head of that module.
 */

/** The largest single I/O that a front door accepts. A longer NBD request is answered with an error. */
export const IO_BYTES_MAX = 32 * 1024 * 1024;

/** Requests that one NBD connection may have in flight; at the bound its socket is not read. */
export const NBD_INFLIGHT_REQUESTS_MAX = 256;

/** Payload bytes that one NBD connection may have in flight; at the bound its socket is not read. */
export const NBD_INFLIGHT_BYTES_MAX = 64 * 1024 * 1024;

/** Reply bytes that may wait for a client that does not read; at the bound its requests are not read. */
export const CLIENT_UNSENT_BYTES_MAX = 64 * 1024 * 1024;

/** Buffers that all clients of a process may hold together; beyond it each of them has to do with the next bound. */
export const CLIENTS_HELD_BYTES_MAX = 1024 * 1024 * 1024;

/** What one client may then hold before its socket is not read; a single request may be larger. */
export const CROWDED_CLIENT_BYTES_MAX = 1024 * 1024;

/** Largest payload of one link frame; a longer I/O is split by the sender. */
export const LINK_PAYLOAD_BYTES_MAX = 1024 * 1024;

/** Largest compare-and-write of a volume: both its halves go in one frame, which cannot be split. */
export const COMPARE_AND_WRITE_BYTES_MAX = LINK_PAYLOAD_BYTES_MAX / 2;

/** Largest control message on the bus. */
export const BUS_MESSAGE_BYTES_MAX = 64 * 1024;

/** Paths of one volume. */
export const VOLUME_PATHS_MAX = 8;
