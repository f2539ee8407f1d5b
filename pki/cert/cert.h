/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fieldgate-cert: all that pki/fleet does with X.509 (RFC 5280). fleet says which files, in which
 * order, and keeps the registry; this program makes keys and certificates, reads requests and
 * signs. It syncs nothing: what it makes lies in a stage of fleet's, which is synced when it is
 * whole (pki/lib/stage.sh).
 *
 * Each command's exit status: 0 done; 1 failed, and stderr says what, where and what to do; 2 wrong
 * usage.
 */
#ifndef FG_PKI_CERT_H
#define FG_PKI_CERT_H

#define EXIT_FAILED 1
#define EXIT_USAGE  2

/* Print `fieldgate-cert: ...` to stderr, and return EXIT_FAILED. Never of a secret. */
int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The same, with the reason that OpenSSL has left behind it. */
int complain_openssl(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Print `fieldgate-cert: warning: ...` to stderr. */
void warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The whole usage to stderr; EXIT_USAGE. */
int usage(void);

int issue_main(int argc, char **argv);
int key_main(int argc, char **argv);
int show_main(int argc, char **argv);
int pin_main(int argc, char **argv);
int names_main(int argc, char **argv);
int crl_main(int argc, char **argv);
int verify_main(int argc, char **argv);
int requests_main(int argc, char **argv);

#endif
