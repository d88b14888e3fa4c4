package main

import (
	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/server"
)

// commands lists every command, in the order of the manual.
func commands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newDemoCommand(g),
		newServeCommand(g),
		newAgentCommand(g),
		newConfigCommand(g, server.Checks(protocols)),
		newLoginCommand(g), newWhoamiCommand(g), newTokenCommand(g),
		newConnectionCommand(g), newConnectCommand(g), newEnvCommand(g),
		newSkillCommand(g),
		newSessionCommand(g),
		newSearchCommand(g),
		newApprovalCommand(g),
		newPolicyCommand(g),
		newLedgerCommand(g),
		newEvidenceCommand(g),
		newBackupCommand(g), newHealthCommand(g),
	}
}
