import { defineErrors, type ErrorFields, type OrionError } from '../core/errors.ts';

const peer = 'Report it to the vendor of the target, with a capture of the connection.';

export const iscsiErrors = defineErrors('iscsi', {
  ISCSI_CONNECT_FAILED: {
    text: 'no connection to the portal',
    hint: 'Check the address, that the target runs, and the firewall between.',
    outcome: 'not-executed',
  },
  ISCSI_LOGIN_REFUSED: {
    text: 'the target refuses the login',
    hint: 'Check the target name, and the access rules and authentication on the target.',
    outcome: 'not-executed',
  },
  ISCSI_LOGIN_FAILED: {
    text: 'the login did not come to an agreement',
    hint: 'Compare the login parameters of both sides.',
    outcome: 'not-executed',
  },
  ISCSI_LOGIN_TIMEOUT: {
    text: 'the target did not finish the login in time',
    hint: 'Check that what listens on the portal is an iSCSI target, and that it is not overloaded.',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_WEAK_SECRET: {
    text: 'a CHAP secret has fewer than 96 bits',
    hint: 'Make one with: openssl rand -hex 16. Give it to the target too. (Weak ones are taken with allow_weak_secrets = true.)',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_EQUAL_SECRETS: {
    text: 'the CHAP secrets of initiator and target are the same',
    hint: 'Give each direction a secret of its own: with one for both, anybody can pass as the target.',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_ALGORITHM: {
    text: 'the target takes none of the CHAP algorithms that we offer',
    hint: 'Compare the algorithms of both sides; every target has MD5 unless that was switched off there.',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_BAD_ANSWER: {
    text: 'the target breaks the rules of CHAP',
    hint: peer,
    outcome: 'not-executed',
  },
  ISCSI_CHAP_SKIPPED: {
    text: 'the target goes on before the authentication is complete',
    hint: 'The target asks for no authentication, or is not the one it says it is. Switch CHAP on there.',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_TARGET_FAILED: {
    text: 'the target does not know the secret that it has to prove itself with',
    hint: 'Compare the name and secret of mutual CHAP on both sides; on the target they are called outgoing or mutual.',
    outcome: 'not-executed',
  },
  ISCSI_CHAP_REFLECTED: {
    text: 'the target sends back what we asked or answered ourselves',
    hint: 'Check that both directions have secrets of their own; otherwise somebody is passing as the target.',
    outcome: 'not-executed',
  },
  ISCSI_PORTAL_GROUP: {
    text: 'the portal belongs to another portal group than it should',
    hint: 'Ask for the portals anew with "orion-iscsi discover PORTAL"; the target was changed since.',
    outcome: 'not-executed',
  },
  ISCSI_REDIRECT_LOOP: {
    text: 'the target redirects the login again and again',
    hint: 'Check the redirections that are configured on the target.',
    outcome: 'not-executed',
  },
  ISCSI_BAD_NAME: {
    text: 'not an iSCSI name',
    hint: 'Names look like iqn.2026-11.com.example:disk1.',
    outcome: 'not-executed',
    errno: 'EINVAL',
  },
  ISCSI_PROTOCOL: {
    text: 'the target broke the protocol',
    hint: peer,
    outcome: 'unknown',
  },
  ISCSI_DIGEST_HEADER: {
    text: 'the header of a PDU from the target does not have the digest that came with it',
    hint: 'Bytes change on their way: look at the switches, network cards and memory between. The session is opened anew.',
    outcome: 'unknown',
  },
  ISCSI_DIGEST_DATA: {
    text: 'the data of a PDU from the target do not have the digest that came with them',
    hint: 'Bytes change on their way: look at the switches, network cards and memory between. The session is opened anew.',
    outcome: 'unknown',
  },
  ISCSI_CONNECTION_LOST: {
    text: 'the connection to the target is lost',
    hint: 'Look at the network and at the log of the target.',
    outcome: 'unknown',
  },
  ISCSI_NOP_TIMEOUT: {
    text: 'the target went silent and did not answer a ping',
    hint: 'Look at the network and at the load of the target.',
    outcome: 'unknown',
  },
  ISCSI_COMMAND_TIMEOUT: {
    text: 'a command was not answered in time',
    hint: 'Look at the disks and the load of the target, or raise the command timeout.',
    outcome: 'unknown',
  },
  ISCSI_CONNECTION_ENDED: {
    text: 'one connection of the session was lost, and the target has ended the commands on it',
    hint: 'Send the request again. Look at the network.',
    outcome: 'terminated',
  },
  ISCSI_NOT_RESENT: {
    text: 'the target does not send again what was damaged or lost on its way',
    hint: 'Bytes change on their way: look at the switches, network cards and memory between.',
    outcome: 'terminated',
  },
  ISCSI_COMMAND_ABORTED: {
    text: 'a command was not answered in time and was aborted',
    hint: 'Look at the disks and the load of the target, or raise the command timeout.',
    outcome: 'terminated',
  },
  ISCSI_DROPPED_BY_TARGET: {
    text: 'the target ends the session',
    hint: 'Look at the log of the target: it may be going down, or somebody else logged in in our place.',
    outcome: 'unknown',
  },
  ISCSI_CONNECTION_DROPPED: {
    text: 'the target drops a connection',
    hint: 'Look at the log of the target: it may be going down, or a port of it.',
    outcome: 'unknown',
  },
  ISCSI_SESSION_CLOSED: {
    text: 'the session is closed',
    hint: 'Log in again.',
    outcome: 'not-executed',
  },
  ISCSI_SESSION_LOST: {
    text: 'the session was lost while the command was on its way',
    hint: 'Fence the attempt before anything that overlaps is sent.',
    outcome: 'unknown',
  },
  ISCSI_QUEUE_FULL: {
    text: 'more commands than a session holds',
    hint: 'Reduce the number of requests in flight.',
    outcome: 'not-executed',
  },
  ISCSI_REJECTED: {
    text: 'the target rejected the PDU',
    hint: peer,
    outcome: 'not-executed',
  },
  ISCSI_TARGET_FAILURE: {
    text: 'the target failed to carry the command out',
    hint: 'Look at the log of the target.',
    outcome: 'terminated',
  },
  ISCSI_SHORT_TRANSFER: {
    text: 'the target transferred less than the command asked for',
    hint: peer,
    outcome: 'final',
  },
  ISCSI_LUN_RESET: {
    text: 'the logical unit was reset',
    hint: 'Send the request again.',
    outcome: 'terminated',
  },
  ISCSI_TMF_FAILED: {
    text: 'the target did not carry out the task management function',
    hint: 'Look at what the target supports.',
    outcome: 'unknown',
  },
  ISCSI_LOGOUT_FAILED: {
    text: 'the target did not carry out the logout',
    hint: 'The connection was dropped instead; the target will notice.',
    outcome: 'unknown',
  },
  ISCSI_LOGOUT_TIMEOUT: {
    text: 'the target did not answer the logout in time',
    hint: 'The connection was dropped instead; the target will notice.',
    outcome: 'unknown',
  },
});

/** A violation by the target: it ends the session, and says which clause. Thrown inside the receive path only. */
export function protocolError(what: string, fields: ErrorFields = {}): OrionError {
  return iscsiErrors.make('ISCSI_PROTOCOL', {
    message: `the target broke the protocol: ${what}`,
    fields,
  });
}
