import { JetStreamApiError } from '@nats-io/jetstream';
import { errors } from '@nats-io/transport-node';
import { type ErrorFields, errorText, isOrionError, type OrionError } from '../../core/errors.ts';
import { busErrors } from '../errors.ts';

/** Codes of JetStream's API (nats-server/server/errors.json). */
const WRONG_LAST_SEQUENCE = 10071;
const WRONG_LAST_SEQUENCE_UNKNOWN = 10164;
const STREAM_NOT_FOUND = 10059;

/** What the client library threw, in the words of the bus. */
export function fromNats(error: unknown, fields: ErrorFields): OrionError {
  if (isOrionError(error)) return error;
  const options = { fields, cause: error };
  const kinds = [error, error instanceof Error ? error.cause : undefined];
  const is = (kind: new (...args: never[]) => Error): boolean =>
    kinds.some((one) => one instanceof kind);
  if (error instanceof JetStreamApiError) {
    if (error.code === WRONG_LAST_SEQUENCE || error.code === WRONG_LAST_SEQUENCE_UNKNOWN) {
      return busErrors.make('BUS_KV_CONFLICT', options);
    }
    const status = { ...fields, error: error.message, jetstreamCode: error.code };
    return busErrors.make('BUS_REMOTE', { fields: status, cause: error });
  }
  if (isNotEnabled(error)) {
    return busErrors.make('BUS_UNREACHABLE', {
      ...options,
      message: 'the NATS server has no JetStream, or does not answer for it now',
      hint: 'Start nats-server with JetStream on (-js).',
    });
  }
  if (is(errors.NoRespondersError)) return busErrors.make('BUS_NO_RESPONDER', options);
  if (is(errors.TimeoutError)) return busErrors.make('BUS_TIMEOUT', options);
  const reason = { ...fields, error: errorText(error) };
  return busErrors.make('BUS_DISCONNECTED', { fields: reason, cause: error });
}

/** The bucket is not there: the server has lost it (or somebody deleted it). */
export function isBucketGone(error: unknown): boolean {
  // Nobody stores the subject, or nobody knows the stream.
  return (
    isNotEnabled(error) || (error instanceof JetStreamApiError && error.code === STREAM_NOT_FOUND)
  );
}

/** Nobody answers for JetStream. Its class is not exported. */
function isNotEnabled(error: unknown): boolean {
  return error instanceof Error && error.name === 'JetStreamNotEnabled';
}
