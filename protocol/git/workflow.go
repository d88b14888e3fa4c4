package git

import "strings"

// runsByItself reports a path whose change runs on the next push, or that says
// who must agree to changes: of the CI systems and hosts in use, wherever their
// case is not told.
func runsByItself(path string) bool {
	p := fold(path)
	name := base(p)
	for _, dir := range []string{".github/workflows/", ".github/actions/", ".gitea/workflows/", ".forgejo/workflows/", ".gitlab/ci/", ".circleci/", ".buildkite/",
		".teamcity/", ".azure-pipelines/", ".woodpecker/", ".husky/", ".semaphore/", ".tekton/", ".harness/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	switch p {
	case "codeowners", "docs/codeowners", ".github/codeowners", ".gitlab/codeowners", ".gitea/codeowners", ".bitbucket/codeowners",
		".github/dependabot.yml", ".github/dependabot.yaml", ".github/settings.yml", ".pre-commit-config.yaml", "renovate.json", "renovate.json5", ".renovaterc", ".github/renovate.json",
		"cloudbuild.yaml", "cloudbuild.yml", "cloudbuild.json", "atlantis.yaml", ".goreleaser.yml", ".goreleaser.yaml", ".ci/run":
		return true
	}
	switch name {
	case ".gitmodules", ".gitlab-ci.yml", ".travis.yml", ".drone.yml", ".drone.star", ".woodpecker.yml", ".woodpecker.yaml", "appveyor.yml", ".appveyor.yml",
		"bitbucket-pipelines.yml", "jenkinsfile", "buildspec.yml", "buildspec.yaml", ".lfsconfig", "codefresh.yml", ".cirrus.yml", ".cirrus.star":
		return true
	}
	return strings.HasPrefix(name, "azure-pipelines") && strings.Contains(name, ".y") || strings.HasSuffix(name, ".gitlab-ci.yml") || strings.HasPrefix(name, "jenkinsfile.")
}
