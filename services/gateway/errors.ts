import { defineErrors } from '#core/errors.ts';

export const gatewayErrors = defineErrors('gateway', {
  GATEWAY_NO_LINK: {
    text: 'the worker has not said where its link is',
    hint: 'Start a worker; `orion-iscsi status` shows those that are known.',
    outcome: 'not-executed',
  },
  GATEWAY_WORKER_CHANGED: {
    text: 'the link leads to another process of the worker than the one that logged in',
    hint: 'The worker was restarted meanwhile; the path is claimed anew.',
    outcome: 'not-executed',
  },
  GATEWAY_SIZE_UNKNOWN: {
    text: 'the target port takes no I/O now, and no other path has told how large the logical unit is',
    hint: 'Bring a target port group into an active state; the path is tried again.',
    outcome: 'not-executed',
  },
  GATEWAY_NOT_OWNER: {
    text: 'this gateway does not own the volume any more',
    hint: 'Connect to the gateway that `orion-iscsi status` names as its owner.',
    outcome: 'not-executed',
    errno: 'ESHUTDOWN',
  },
  GATEWAY_EPOCH_LOST: {
    text: 'the workers know a newer epoch of the volume than its record: the store of the bus has lost history',
    hint: 'The volume goes on in a still newer epoch. Find out why the data of nats-server was lost.',
    outcome: 'not-executed',
  },
  GATEWAY_NO_FENCE: {
    text: 'the volume may not be fenced with what its configuration allows',
    hint: 'Set allow_lun_reset = true for the volume, or accept that writes of unknown outcome fail.',
    outcome: 'final',
  },
  GATEWAY_NO_PATH: {
    text: 'the volume has no such path in service',
    hint: '`orion-iscsi multipath info` shows the paths. One that is not in service is being logged in already.',
    outcome: 'not-executed',
  },
  GATEWAY_PATH_BUSY: {
    text: 'what is in flight on the path did not come to its end in time, so it was left as it is',
    hint: 'Try again when there is less load, or look at the target.',
    outcome: 'not-executed',
  },
  GATEWAY_LAST_PATH: {
    text: 'it is the only path of the volume, and I/O may not wait for it',
    hint: 'Set no_path_retry_ms for the volume, so that clients wait while the path is logged in anew.',
    outcome: 'not-executed',
  },
  GATEWAY_PATH_AWAY: {
    text: 'the path was logged out, and is not back yet',
    hint: 'It is tried again and again; `orion-iscsi multipath info` says what is wrong.',
    outcome: 'not-executed',
  },
  GATEWAY_OTHER_UNIT: {
    text: 'the path shows another logical unit than the one the volume is made of',
    hint: 'Was the LUN replaced? Remove the volume and define it again if that is what you want.',
    outcome: 'final',
  },
});
