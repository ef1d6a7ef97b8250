import { defineErrors } from '#core/errors.ts';

export const cliErrors = defineErrors('cli', {
  CLI_NOT_RUNNING: {
    text: 'nothing runs here',
    hint: 'Start it with "orion-iscsi up --config FILE", or name the right file.',
    outcome: 'not-executed',
  },
  CLI_ALREADY_RUNNING: {
    text: 'another "up" runs on this state directory',
    hint: 'Stop it first, or give this one another node.state_dir.',
    outcome: 'not-executed',
  },
  CLI_STATE_DIR: {
    text: 'the state directory cannot be used',
    hint: 'Give a directory of your own in node.state_dir.',
    outcome: 'not-executed',
  },
  CLI_ADDRESS: {
    text: 'an address cannot be listened on',
    hint: 'Stop what uses it ("ss -ltnp" shows it), or change the listener in the configuration.',
    outcome: 'not-executed',
  },
  CLI_NO_ANSWER: {
    text: 'the node does not answer',
    hint: 'Look at its log; "orion-iscsi doctor" checks what it needs.',
    outcome: 'not-executed',
  },
  CLI_CHILD_FAILED: {
    text: 'a process of the node could not start',
    hint: 'Its log above says why.',
    outcome: 'not-executed',
  },
  CLI_NOT_YET: {
    text: 'not available yet',
    hint: '',
    outcome: 'not-executed',
  },
  CLI_USAGE: {
    text: 'the command line is not right',
    hint: '"orion-iscsi --help" lists the commands.',
    outcome: 'not-executed',
  },
});
