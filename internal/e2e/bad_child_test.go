package e2e

// childEnv marks a process that is a worker, and no test.
const childEnv = "E2E_WORKER"

func childMain() int { return 0 }
