/** Status class and detail of a Login Response, by name (RFC 7143 §11.13.5). */

interface LoginStatus {
  readonly name: string;
  readonly hint: string;
}

const retry = 'It may work later: the target is short of something.';
const config = 'Trying again will not help; change the configuration.';

export const loginStatuses: Readonly<Record<number, LoginStatus>> = {
  0: { name: 'success', hint: '' },
  257: { name: 'target moved temporarily', hint: 'The target says where to.' },
  258: { name: 'target moved permanently', hint: 'Change the configured portal.' },
  512: { name: 'initiator error', hint: config },
  513: {
    name: 'authentication failure',
    hint: 'Check the CHAP names and secrets on both sides; a target that wants CHAP needs auth in its [[targets]] table.',
  },
  514: {
    name: 'authorization failure',
    hint: 'Allow the name of this initiator on the target (its access list).',
  },
  515: {
    name: 'target not found',
    hint: 'Check the target name for a typing error; "orion-iscsi discover PORTAL" lists the names.',
  },
  516: { name: 'target removed', hint: 'The target is gone for good; remove it here too.' },
  517: { name: 'unsupported version', hint: config },
  518: { name: 'too many connections', hint: 'Use fewer connections in the session.' },
  519: { name: 'missing parameter', hint: config },
  520: { name: 'cannot include the connection in the session', hint: config },
  521: { name: 'session type not supported', hint: config },
  522: { name: 'session does not exist', hint: 'Log in anew, without a TSIH.' },
  523: { name: 'invalid during login', hint: config },
  768: { name: 'target error', hint: retry },
  769: { name: 'service unavailable', hint: retry },
  770: { name: 'out of resources', hint: retry },
};

const classes: Readonly<Record<number, LoginStatus>> = {
  1: { name: 'redirection of an unknown kind', hint: config },
  2: { name: 'initiator error of an unknown kind', hint: config },
  3: { name: 'target error of an unknown kind', hint: retry },
};

export function loginStatus(statusClass: number, detail: number): LoginStatus {
  return (
    loginStatuses[(statusClass << 8) | detail] ??
    classes[statusClass] ?? { name: 'reserved status class', hint: config }
  );
}
