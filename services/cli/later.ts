import { cliErrors } from './errors.ts';

const EDIT_FILE = 'edit the configuration file and restart "orion-iscsi up"';

export interface LaterCommand {
  readonly group: string;
  readonly verb: string;
  readonly text: string;
  /** What a user can do until it comes. */
  readonly instead: string;
}

/** The commands of the specification that later versions bring. */
export const LATER: readonly LaterCommand[] = [
  {
    group: 'session',
    verb: 'remove',
    text: 'end a session',
    instead: `Take the volume or the portal away: ${EDIT_FILE}.`,
  },
  {
    group: 'connection',
    verb: 'remove',
    text: 'end a connection',
    instead: `Take the portal away: ${EDIT_FILE}.`,
  },
  {
    group: 'target',
    verb: 'add',
    text: 'add a target',
    instead: `Add a [[targets]] table: ${EDIT_FILE}.`,
  },
  {
    group: 'target',
    verb: 'remove',
    text: 'remove a target',
    instead: `Remove its [[targets]] table: ${EDIT_FILE}.`,
  },
  {
    group: 'multipath',
    verb: 'config',
    text: 'change the policy of a volume',
    instead: `Set policy in its [[volumes]] table: ${EDIT_FILE}.`,
  },
];

export function notYet(command: string, instead: string): never {
  throw cliErrors.make('CLI_NOT_YET', {
    message: `"${command}" is not available yet`,
    hint: instead,
  });
}
