import { defineErrors } from '../core/errors.ts';

export const clusterErrors = defineErrors('cluster', {
  CLUSTER_NO_WORKER: {
    text: 'no worker is there that could hold the path',
    hint: 'Start a worker; `orion-iscsi status` shows those that are known.',
    outcome: 'not-executed',
  },
  CLUSTER_FENCE_GROUP: {
    text: 'the old session cannot be ended from the target portal group that answers',
    hint: 'Bring a portal of the old group back; until then writes of unknown outcome wait.',
    outcome: 'unknown',
  },
});
