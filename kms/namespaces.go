package kms

import "context"

// CreateNamespace creates a namespace. Errors: ErrNamespaceExists.
func (s *Service) CreateNamespace(ctx context.Context, p Principal, name NamespaceName) (*Namespace, error) {
	var made *Namespace
	var spread Spread
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionCreateNamespace, namespace: name, resource: name.String(),
		invalid: required("namespace_id", name.IsZero()), spread: &spread,
		work: func(ctx context.Context) error {
			revision, err := s.commit(ctx, s.newNamespace(name, p.Name))
			if err != nil {
				return err
			}
			made = s.snapshot.Load().namespace(name)
			spread, err = s.spread(ctx, revision)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

func (s *Service) newNamespace(name NamespaceName, by string) func(*Snapshot) (*Change, error) {
	return func(now *Snapshot) (*Change, error) {
		if now.namespace(name) != nil {
			return nil, errorf(ErrNamespaceExists, "%s exists already", name)
		}
		return &Change{Namespaces: []*Namespace{{Name: name, CreateTime: s.now(), CreatedBy: by}}}, nil
	}
}

// GetNamespace returns a namespace. Errors: ErrNamespaceNotFound.
func (s *Service) GetNamespace(ctx context.Context, p Principal, name NamespaceName) (*Namespace, error) {
	var found *Namespace
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGetNamespace, namespace: name, resource: name.String(),
		invalid: required("name", name.IsZero()),
		work: func(context.Context) error {
			if found = s.snapshot.Load().namespace(name); found == nil {
				return namespaceNotFound(name)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ListNamespaces returns a page of namespaces, ordered by name.
func (s *Service) ListNamespaces(ctx context.Context, p Principal, page Page) (*NamespaceList, error) {
	list := &NamespaceList{}
	from, size, invalid := page.parse("namespaces")
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListNamespaces, invalid: invalid,
		work: func(context.Context) error {
			s.snapshot.Load().namespaces.Ascend(from, func(_ string, n *Namespace) bool {
				if len(list.Namespaces) == size {
					list.NextToken = pageToken("namespaces", n.Name.ID())
					return false
				}
				list.Namespaces = append(list.Namespaces, n)
				return true
			})
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func namespaceNotFound(name NamespaceName) *Error {
	return errorf(ErrNamespaceNotFound, "%s does not exist", name)
}
