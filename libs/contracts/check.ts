import type { Static, TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { busErrors } from '../bus/errors.ts';

const compiled = new WeakMap<TSchema, Validator>();

/** Checks what came from another process against its schema. Throws BUS_BAD_MESSAGE that says what is wrong where. */
export function checked<T extends TSchema>(schema: T, value: unknown, what: string): Static<T> {
  let validator = compiled.get(schema);
  if (validator === undefined) {
    validator = Compile(schema) as unknown as Validator;
    compiled.set(schema, validator);
  }
  if (validator.Check(value)) return value as Static<T>;
  const first = validator.Errors(value)[0];
  throw busErrors.make('BUS_BAD_MESSAGE', {
    message: `${what} is malformed: ${first?.instancePath || 'value'} ${first?.message ?? ''}`,
  });
}
