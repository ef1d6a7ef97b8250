import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '#core/clock.ts';
import { LINGER_MS } from './limits.ts';

/**
 * Prepares for an answer that comes before the body was read to its end. The rest of the body is not worth receiving,
 * so the connection closes; but closing it with unread data in it makes the kernel send a reset, and a client that is
 * still sending would see that instead of the answer. So it is half-closed, and read for a little while longer.
 */
export function closeAfterAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  clock: Clock,
): void {
  if (request.complete || response.headersSent) return;
  const { socket } = request;
  response.setHeader('connection', 'close');
  response.once('finish', () => request.resume());
  // Node calls this when an answer with "Connection: close" has been written.
  socket.destroySoon = () => {
    socket.end();
    const timer = clock.after(LINGER_MS, () => socket.destroy());
    socket.once('close', () => timer.cancel());
  };
}
