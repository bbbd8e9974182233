"""Faults provoked on a real broker, and the proof that nothing is lost and nothing is told that should not be.

load        what is sent: streams with anomalies, gaps, copies, late and broken messages
expected    an independent program that says from the input topic what must have been told
failpoints  named places in the daemon at which it kills itself
lives       replicas, started from a process that has everything loaded
rounds      one fault, one set-up, so many times; then the comparison
soak        an hour at half capacity, a replica killed every two minutes

python -m tests.faults --help
"""
