package export

// readme goes into every bundle of evidence.
const readme = `Evidence from custos
====================

This bundle holds what callers ran through a custos gateway and what came
back, with the proof that nothing of it was changed since.

To verify it you need the gateway's public key, from somebody you trust and
not from this bundle (public.key here is for comparing only), and the custos
program, on any machine, without a network:

    custos evidence verify THIS --key ledger.pub

It exits with status 0 if all of it holds, and with 5 and the names of the
files if not. index.html is for reading; custos session export and the files
themselves have more.

What is in it
  checkpoint            the ledger's signed head (C2SP tlog-checkpoint)
  entries.jsonl         the entries: leaf, attachment, inclusion proof
  recordings/           large answers, encrypted with their session's key
  keys/                 the sessions' keys (left out with --sealed)
  config/               the configurations that were in force
  manifest.json         every file with its SHA-256
  manifest.entry.json   the ledger's own entry about this export, which cites
                        the manifest's SHA-256, with its proof against
                        manifest.checkpoint
  consistency.json      the proof that manifest.checkpoint extends checkpoint
  public.key            the ledger's public key, for comparing

What it proves
  - Each entry is in the ledger that the key's holder signed, as it stands
    here; so are statements, parameters and answers, which the entries cite
    by SHA-256, and keys, to which each session's first entry commits.
  - A session marked complete has its opening, its end, and exactly as many
    operations as its end counts.
  - This bundle is as the gateway wrote it: the ledger has an entry about it.

What it does not prove
  - That there were no other sessions: ask for the ledger itself, and compare
    checkpoints with a witness that somebody else runs.
  - That an operation without an outcome here has none: an outcome that was
    left out looks the same. Ask for the ledger itself.
  - What the target did with a statement, beyond what it answered.
`
