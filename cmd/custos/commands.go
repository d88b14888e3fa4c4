package main

import "github.com/spf13/cobra"

// commands lists every command, in the order of the manual.
func commands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newDemoCommand(g),
		newServeCommand(g),
		newAgentCommand(g),
		newConfigCommand(g, protocolNames()),
		newLoginCommand(g), newWhoamiCommand(g), newTokenCommand(g),
		newConnectionCommand(g), newConnectCommand(g), newEnvCommand(g),
		newSessionCommand(g),
		newSearchCommand(g),
		newApprovalCommand(g),
		newPolicyCommand(g),
		newSkillCommand(g),
		newLedgerCommand(g),
		newEvidenceCommand(g),
		newBackupCommand(g), newHealthCommand(g),
	}
}
